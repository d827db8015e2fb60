"""The `riskcards` command: a root that finds its subcommands by name and turns our errors into exit codes.

0 done, 1 our fault or the machine's, 2 wrong use, 3 bad input, 4 abstained.
"""

from __future__ import annotations

import errno
import importlib
import os
import re
import sys

import click

from cds_service.commands.shared.exit_codes import BAD_INPUT, DONE, OUR_FAULT

# Listed in the order a newcomer meets them; a command's module is imported only when it is asked for.
COMMANDS = {
    "demo": "The whole product in your browser, on synthetic patients and embedded defaults.",
    "serve": "The production server: CDS Hooks, feedback, model cards, health.",
    "read-ahead": "The worker that has a language model read notes ahead of the hooks.",
    "map": "FHIR files in; features, notes, Markdown, codes or MEDS rows out.",
    "score": "A patient's risk as a FHIR RiskAssessment.",
    "cohort": "Labelled cohorts from FHIR or MEDS, by a named label definition or your own.",
    "train": "A model of your own, from a cohort.",
    "evaluate": "A model on patients it never saw: metrics.json and a report.",
    "recalibrate": "A new version of a model, fitted to your own outcome rate.",
    "train-reader": "A language model taught to read notes: LoRA on a local one, from records whose notes are known.",
    "few-shot": "The few-shot protocol: record embeddings against counts, at every number of examples.",
    "rubric": "Questions about a record, written once by a model or a clinician, answered by rules.",
    "benchmark": "Published protocols, such as EHRSHOT's, on data you have the right to.",
    "index": "Build, search, check and evaluate a PubMed index.",
    "card": "A model card as HTML, JSON or CHAI XML.",
    "client": "The EHRs that may call: add, list, rotate keys, remove.",
    "mode": "Off, silent, pilot, live; and the kill switch.",
    "audit": "The chain of what was answered: verify, read, retention.",
    "replay": "An answered card's estimates, computed again and compared.",
    "outcomes": "What really happened, for monitoring.",
    "monitor": "Alert burden, overrides, drift and calibration, from what was answered.",
    "doctor": "What is installed, configured, hashed and reachable.",
}

_MODULES = {
    "demo": "cds_service.commands.service.demo",
    "serve": "cds_service.commands.service.serve",
    "read-ahead": "cds_service.commands.service.read_ahead",
    "map": "cds_service.commands.patients.map",
    "score": "cds_service.commands.patients.score",
    "cohort": "cds_service.commands.modelling.cohort",
    "train": "cds_service.commands.modelling.train",
    "evaluate": "cds_service.commands.modelling.evaluate",
    "recalibrate": "cds_service.commands.modelling.recalibrate",
    "train-reader": "cds_service.commands.modelling.train_reader",
    "few-shot": "cds_service.commands.modelling.few_shot",
    "rubric": "cds_service.commands.modelling.rubric",
    "benchmark": "cds_service.commands.modelling.benchmark",
    "index": "cds_service.commands.literature.index",
    "card": "cds_service.commands.modelling.card",
    "client": "cds_service.commands.service.client",
    "mode": "cds_service.commands.service.mode",
    "audit": "cds_service.commands.oversight.audit",
    "replay": "cds_service.commands.oversight.replay",
    "outcomes": "cds_service.commands.oversight.outcomes",
    "monitor": "cds_service.commands.oversight.monitor",
    "doctor": "cds_service.commands.service.doctor",
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(_MODULES[cmd_name])
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="riskcards")
def cli() -> None:
    """Risk cards for the EHR sidebar: in-hospital mortality and 30-day readmission, explained and grounded in PubMed.

    \b
    Start here:    riskcards demo
    One patient:   riskcards score patient.json --task readmission_30d
    Look inside:   riskcards map patient.json --as-of 2024-05-01 --to features --json
    Literature:    riskcards index search starter "heart failure readmission"

    Every command has --help. Exit codes: 0 done, 1 our fault or the machine's, 2 wrong use, 3 bad input, 4 abstained.
    """


def main() -> None:
    """Console entry point."""
    try:
        # Without standalone mode click hands a command's exit code back instead of leaving with it.
        sys.exit(cli.main(standalone_mode=False) or DONE)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.exceptions.Exit as exit_:
        sys.exit(exit_.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # Whoever read our output has read enough; Python would complain once more when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(OUR_FAULT)
    except OSError as error:
        if error.errno is None and not _SHORT_WRITE.fullmatch(str(error)):
            raise
        click.echo(f"riskcards: {_in_words(error)}", err=True)
        sys.exit(OUR_FAULT)
    except Exception as error:
        code = _code_of(error)
        if code is None:
            raise
        click.echo(f"riskcards: {error}", err=True)
        sys.exit(code)


def _code_of(error: Exception) -> int | None:
    """Of an error of ours. The rooms are imported only now: neither --help nor an early Ctrl-C waits for them."""
    from fhir_mapping import FhirMappingError
    from knowledge_index import KnowledgeIndexError
    from risk_model import RiskModelError

    return BAD_INPUT if isinstance(error, FhirMappingError | KnowledgeIndexError | RiskModelError) else None


def _in_words(error: OSError) -> str:
    """What the machine refused, where, and what to do about it."""
    where = f"{error.filename}: " if error.filename else ""
    number = error.errno or errno.ENOSPC
    return f"{where}{os.strerror(number)}{_ADVICE.get(number, '')}"


_SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")
"""What numpy says of a full disk, without a number."""
_ROOM, _RIGHTS = "; make room or choose another place, and start again", "; choose a place this user may use"
_ADVICE = {errno.ENOSPC: _ROOM, errno.EDQUOT: _ROOM, errno.EROFS: _RIGHTS, errno.EACCES: _RIGHTS, errno.EPERM: _RIGHTS}


if __name__ == "__main__":
    main()
