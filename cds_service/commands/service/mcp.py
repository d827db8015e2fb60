"""`riskcards mcp`: a read-only MCP server on standard input and output."""

from __future__ import annotations

import logging
import secrets
from datetime import datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cds_service.commands.shared.files import SiteMapType, TimeType
from fhir_mapping import SiteMap

if TYPE_CHECKING:
    from cds_service.commands.service.mcp_tools import ReadOnlyTools


@click.command(name="mcp")
@click.argument("files", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--demo", is_flag=True, help="Serve the demo's synthetic patients.")
@click.option("--as-of", type=TimeType(), help="Use only data known at this time.  [default: all data]")
@click.option("--site-map", type=SiteMapType(), help="YAML file that translates a site's own codes.")
@click.option("--identified", is_flag=True, help="Show records as they are.  [default: de-identified]")
def command(
    files: tuple[Path, ...], demo: bool, as_of: datetime | None, site_map: SiteMap | None, identified: bool
) -> None:
    """Serve estimates, literature and model cards to an MCP client, read-only, on standard input and output.

    FILES are FHIR files of one patient each, or folders of many; they are read once at the start. Tools: list_patients,
    explain_patient, search_literature, model_card. Nothing is written, stored or sent, and no port is opened. Records
    are de-identified first, since the client passes what it reads to a language model (docs/mcp.md).

    \b
    riskcards mcp --demo
    riskcards mcp patient.json export/

    Needs pip install "riskcards[mcp]". Exit codes: 0 the client left, 2 usage error, 3 no patient that can be read.
    """
    if demo == bool(files):
        raise click.UsageError("give FILES, or --demo")
    if demo and (as_of or site_map):
        raise click.UsageError("--as-of and --site-map apply to FILES; the demo's patients are as of now")
    if find_spec("mcp") is None:
        raise click.UsageError("the package mcp is not installed: pip install 'riskcards[mcp]'")
    from cds_service.commands.service.mcp_tools import ReadOnlyTools, demo_records, read_records
    from risk_model import Pipeline
    from risk_model.deidentification import Deidentifier

    # Standard output is the protocol's; no level below a warning, and no warning of ours, names a request's content.
    logging.basicConfig(level=logging.WARNING, format="level=%(levelname)s %(message)s")
    refused: list[str] = []
    records = demo_records() if demo else read_records(files, as_of, site_map, refused)
    for line in refused:
        click.echo(f"not served: {line}", err=True)
    by = None if identified else Deidentifier(secrets.token_bytes(32))
    tools = ReadOnlyTools(Pipeline.shipped(), records, by)
    shown = "as they are" if identified else "de-identified"
    click.echo(f"riskcards mcp: {len(records)} patients, {shown}; ends when the client leaves", err=True)
    server_of(tools).run("stdio")


def server_of(tools: ReadOnlyTools) -> Any:
    """Returns the MCP server whose tools answer from `tools`; every tool is marked as read-only."""
    from mcp.server import MCPServer
    from mcp.types import ToolAnnotations

    from cds_service.commands.service.mcp_tools import INSTRUCTIONS

    server = MCPServer("riskcards", instructions=INSTRUCTIONS, version=version("riskcards"), log_level="WARNING")
    marks = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)

    def list_patients() -> dict[str, Any]:
        """List the patients that can be asked about, and the tasks."""
        return tools.patients()

    def explain_patient(patient: str, task: str = "readmission_30d") -> dict[str, Any]:
        """Explain the estimate of one patient: probability, interval, drivers, scores, literature, or an abstention."""
        return tools.explain(patient, task)

    def search_literature(query: str, count: int = 5) -> dict[str, Any]:
        """Search the shipped literature about risk of death and readmission; at most 20 articles."""
        return tools.search(query, count)

    def model_card(task: str) -> dict[str, Any]:
        """Return the model card of a task: purpose, population, data, performance, cautions."""
        return tools.model_card(task)

    for tool in (list_patients, explain_patient, search_literature, model_card):
        server.tool(annotations=marks)(tool)
    return server
