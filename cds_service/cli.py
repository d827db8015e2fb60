"""The `riskcards` command: imports subcommands when they are called and maps errors to exit codes.

0 done, 1 internal or system error, 2 usage error, 3 bad input, 4 abstained.
"""

from __future__ import annotations

import errno
import importlib
import os
import re
import sys

import click

from artifact_store import WorkersError
from cds_service.commands.shared.exit_codes import BAD_INPUT, DONE, INTERNAL_ERROR

# In the order of --help. A command's module is imported only when the command is called.
COMMANDS = {
    "demo": "Try everything in your browser, with synthetic patients.",
    "serve": "Run the production server: CDS Hooks, feedback, model cards, health.",
    "read-ahead": "Run the worker that reads notes with a language model before hooks need them.",
    "refresh": "Keep the estimates of inpatients fresh: poll or be notified, estimate, write back.",
    "map": "Convert FHIR files to features, notes, Markdown, codes or MEDS.",
    "site-map": "Import or propose the meaning of a site's own codes.",
    "score": "Estimate the risk of a patient or a folder of patients, as FHIR RiskAssessment.",
    "explain": "Explain estimates as JSON: drivers, scores, literature, of a patient or a folder.",
    "cohort": "Build a labelled cohort from FHIR or MEDS, by a shipped label definition or your own.",
    "train": "Train a model on a cohort.",
    "evaluate": "Evaluate a model on held-out patients: metrics.json and a report.",
    "recalibrate": "Recalibrate a model to your own outcome rate, as a new version.",
    "ablate": "Compare learners, blocks of inputs and established scores on a cohort.",
    "train-reader": "Fine-tune a local language model (LoRA) to read notes.",
    "few-shot": "Compare record embeddings with code counts for few training examples.",
    "rubric": "Create and check a rubric: questions about a record that rules answer.",
    "benchmark": "Run published benchmarks, such as EHRSHOT, on your own data.",
    "index": "Build, search, verify and evaluate a PubMed index.",
    "card": "Print a model card as HTML, JSON or CHAI XML.",
    "client": "Manage the EHRs that may call the service: add, list, rotate keys, remove.",
    "mode": "Show or set the mode: off, silent, pilot, live; includes the kill switch.",
    "audit": "Verify, export and trim the audit chain of all answers.",
    "replay": "Recompute the estimates of a past card and compare.",
    "outcomes": "Import actual outcomes, for monitoring.",
    "monitor": "Report alert burden, overrides, drift and calibration.",
    "mcp": "Serve estimates and literature to an MCP client, read-only.",
    "doctor": "Check the installation: packages, settings, models, index, keys, database.",
}

_MODULES = {
    "demo": "cds_service.commands.service.demo",
    "serve": "cds_service.commands.service.serve",
    "read-ahead": "cds_service.commands.service.read_ahead",
    "refresh": "cds_service.commands.service.refresh",
    "map": "cds_service.commands.patients.map",
    "site-map": "cds_service.commands.patients.site_map",
    "score": "cds_service.commands.patients.score",
    "explain": "cds_service.commands.patients.explain",
    "cohort": "cds_service.commands.modelling.cohort",
    "train": "cds_service.commands.modelling.train",
    "evaluate": "cds_service.commands.modelling.evaluate",
    "recalibrate": "cds_service.commands.modelling.recalibrate",
    "ablate": "cds_service.commands.modelling.ablate",
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
    "mcp": "cds_service.commands.service.mcp",
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
    """Risk cards for the EHR sidebar: in-hospital mortality and 30-day readmission, explained and supported by PubMed.

    \b
    Start here:    riskcards demo
    One patient:   riskcards score patient.json --task readmission_30d
    Look inside:   riskcards map patient.json --as-of 2024-05-01 --to features --json
    Literature:    riskcards index search starter "heart failure readmission"

    Every command has --help. Exit codes: 0 done, 1 internal or system error, 2 usage error, 3 bad input,
    4 abstained.
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
        # The reader closed the pipe (`| head`); without this Python reports the error again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(INTERNAL_ERROR)
    except OSError as error:
        if error.errno is None and not _SHORT_WRITE.fullmatch(str(error)):
            raise
        click.echo(f"riskcards: {_in_words(error)}", err=True)
        sys.exit(INTERNAL_ERROR)
    except WorkersError as error:
        click.echo(f"riskcards: {error}", err=True)
        sys.exit(INTERNAL_ERROR)
    except Exception as error:
        code = _code_of(error)
        if code is None:
            raise
        click.echo(f"riskcards: {error}", err=True)
        sys.exit(code)


def _code_of(error: Exception) -> int | None:
    """The exit code of our own errors, else None. The packages are imported here so that --help starts fast."""
    from fhir_mapping import FhirMappingError
    from knowledge_index import KnowledgeIndexError
    from risk_model import RiskModelError

    return BAD_INPUT if isinstance(error, FhirMappingError | KnowledgeIndexError | RiskModelError) else None


def _in_words(error: OSError) -> str:
    """The message of a system error: path, reason and remedy."""
    where = f"{error.filename}: " if error.filename else ""
    number = error.errno or errno.ENOSPC
    return f"{where}{os.strerror(number)}{_ADVICE.get(number, '')}"


_SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")
"""numpy's message for a full disk; it has no errno."""
_SPACE, _RIGHTS = "; free some space or choose another path, then run again", "; choose a path this user can write to"
_ADVICE = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EROFS: _RIGHTS,
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
}


if __name__ == "__main__":
    main()
