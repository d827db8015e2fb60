"""llama.cpp's own server (xllamacpp), asked through the OpenAI-compatible endpoint."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import orjson
import pytest

from risk_model.llm.remote_model import RemoteLanguageModel
from risk_model.prompts.answers import ReaderAnswer, complete_json
from risk_model.prompts.note_prompt import Prompt, windows
from tests.risk_model.conftest import NEEDS
from tests.risk_model.note_texts import note
from tests.risk_model.tiny_gguf import save_tiny_gguf


class Post:
    """Sends bodies to a server over HTTP and keeps what came back."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.came: list[tuple[int, bytes]] = []

    def __call__(self, body: bytes, deadline: float | None) -> tuple[int, bytes]:
        request = urllib.request.Request(f"{self.url}/chat/completions", body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                self.came.append((answer.status, answer.read()))
        except urllib.error.HTTPError as error:
            self.came.append((error.code, error.read()))
        return self.came[-1]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    llama = pytest.importorskip("xllamacpp", reason=NEEDS)
    pytest.importorskip("gguf", reason=NEEDS)
    parameters = llama.CommonParams()
    parameters.model.path = str(save_tiny_gguf(tmp_path_factory.mktemp("server") / "tiny.gguf"))
    parameters.n_ctx, parameters.n_parallel, parameters.port, parameters.warmup = 4096, 1, 0, False
    parameters.cpuparams.n_threads, parameters.verbosity = 1, 0
    server = llama.Server(parameters)
    yield f"{server.listening_address}/v1"
    del server


@pytest.fixture
def asked(url: str) -> Callable[[], tuple[RemoteLanguageModel, Post]]:
    def make() -> tuple[RemoteLanguageModel, Post]:
        post = Post(url)
        return RemoteLanguageModel(url, "tiny", post), post

    return make


def test_the_server_takes_our_schema_and_keeps_to_it(asked: Callable[[], tuple[RemoteLanguageModel, Post]]) -> None:
    model, post = asked()
    prompt = Prompt(next(windows(note())), ("Creatinine and death.",))
    said = model.answer(prompt, max_tokens=40)
    assert [status for status, _ in post.came] == [200]
    assert said.startswith("{")
    ReaderAnswer.from_text(complete_json(said))


def test_the_beginning_that_prompts_share_is_read_once(asked: Callable[[], tuple[RemoteLanguageModel, Post]]) -> None:
    model, post = asked()
    first, second = (Prompt(next(windows(note())), (passage,)) for passage in ("Creatinine and death.", "Sepsis."))
    for prompt in (first, second):
        model.answer(prompt, max_tokens=1)
    timings = orjson.loads(post.came[-1][1])["timings"]
    assert timings["cache_n"] > timings["prompt_n"] > 0
