"""The `riskcards` command: imports subcommands when they are called and maps errors to exit codes.

0 done, 1 internal or system error, 2 usage error, 3 bad input, 4 abstained.
"""

from __future__ import annotations

import errno
import importlib
import os
import re
import sys
from difflib import get_close_matches

import click

from artifact_store import WorkersError
from cds_service.commands.shared.exit_codes import BAD_INPUT, DONE, INTERNAL_ERROR

# As --help shows them: command -> (its folder in `commands`, what it does). A module is imported when it is called.
GROUPS: dict[str, dict[str, tuple[str, str]]] = {
    "Run": {
        "demo": ("service", "Try everything in your browser, with synthetic patients."),
        "serve": ("service", "Serve CDS Hooks, the app and model cards in production."),
        "read-ahead": ("service", "Read notes with a language model before hooks need them."),
        "refresh": ("service", "Keep the estimates of inpatients fresh as data arrive."),
        "mcp": ("service", "Serve estimates and literature to an MCP client, read-only."),
    },
    "Patients and literature": {
        "map": ("patients", "Convert FHIR or notes to features, findings, codes or MEDS."),
        "score": ("patients", "Estimate the risk of patients, as FHIR RiskAssessment."),
        "explain": ("patients", "Explain estimates as JSON: drivers, scores, literature."),
        "site-map": ("patients", "Import or propose the meaning of local codes."),
        "index": ("literature", "Build, search, verify and evaluate a PubMed index."),
    },
    "Models": {
        "cohort": ("modelling", "Build a labelled cohort from FHIR or MEDS."),
        "train": ("modelling", "Train a model on a cohort."),
        "evaluate": ("modelling", "Evaluate a model on held-out patients."),
        "recalibrate": ("modelling", "Fit a model to your own outcome rate, as a new version."),
        "card": ("modelling", "Print a model card as HTML, JSON or CHAI XML."),
        "ablate": ("modelling", "Compare learners, inputs and established scores."),
        "train-reader": ("modelling", "Fine-tune a local language model (LoRA) to read notes."),
        "few-shot": ("modelling", "Compare record embeddings for few training examples."),
        "rubric": ("modelling", "Create and check a rubric: questions about a record."),
        "benchmark": ("modelling", "Run published benchmarks, such as EHRSHOT, on your data."),
    },
    "Operate": {
        "doctor": ("service", "Check packages, settings, models, index, keys, database."),
        "client": ("service", "Manage the EHRs that may call the service."),
        "mode": ("service", "Show or set off, silent, pilot or live: the kill switch."),
        "audit": ("oversight", "Verify, export and trim the audit chain of all answers."),
        "replay": ("oversight", "Recompute the estimates of a past card and compare."),
        "outcomes": ("oversight", "Import actual outcomes, for monitoring."),
        "monitor": ("oversight", "Report alert burden, overrides, drift and calibration."),
    },
}
COMMANDS = {name: folder for group in GROUPS.values() for name, (folder, _) in group.items()}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"cds_service.commands.{COMMANDS[cmd_name]}.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        near = get_close_matches(args[0], COMMANDS, 1)
        if args[0] not in COMMANDS and near:
            ctx.fail(f"no command {args[0]!r}; did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        widest = max(map(len, COMMANDS))
        for group, commands in GROUPS.items():
            with formatter.section(group):
                formatter.write_dl([(name.ljust(widest), what) for name, (_, what) in commands.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="riskcards")
def cli() -> None:
    """Risk cards for the EHR sidebar: in-hospital mortality and 30-day readmission, explained and supported by PubMed.

    \b
    Start here:      riskcards demo
    One patient:     riskcards score patient.json --task readmission_30d
    Look inside:     riskcards map patient.json --as-of 2024-05-01 --to features
    Literature:      riskcards index search starter "heart failure readmission"
    Connect an EHR:  docs/deploy.md, then riskcards client add, riskcards serve
    Train your own:  docs/cohorts.md, then riskcards cohort build, riskcards train

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
