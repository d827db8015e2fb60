"""`riskcards site-map import|suggest`: site maps from terminology work that exists already."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import orjson
import yaml

from artifact_store import atomic_file
from cds_service.commands.shared.exit_codes import BAD_INPUT
from cds_service.commands.shared.files import SiteMapType, bundle_files, line_files, read_file
from fhir_mapping import DefinitionError, FhirMappingError, InvalidInputError, SiteMap
from fhir_mapping.bulk import lines_of
from fhir_mapping.parsing import decode_json
from fhir_mapping.site_maps import LocalCodes, check_document, imported, read_mappings
from fhir_mapping.terminology import read_yaml

_SHOWN = 20


@click.group(name="site-map")
def command() -> None:
    """Import or propose the meaning of a site's own codes; see docs/site-maps.md.

    \b
    riskcards site-map import lab-map.json --out site.yaml                    a FHIR ConceptMap, R4 or R5
    riskcards site-map import loinc.csv --system urn:hospital:lab --into site.yaml --out site.yaml
    riskcards site-map suggest export/                                        proposals for codes that are not mapped
    """


@command.command(name="import")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--into", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Site map to extend.")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Site map to write.")
@click.option("--name", help="Name of a new site map.  [default: the name of the output file]")
@click.option("--system", help="URI of the local code system, where the file names none.")
@click.option("--source", help="SYSTEM|CODE that a single $translate result answers.")
@click.option("--wider", is_flag=True, help="Take targets that are broader than the local code too.")
@click.option("--replace", is_flag=True, help="Replace meanings that the site map has already.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.pass_context
def import_(
    ctx: click.Context,
    files: tuple[Path, ...],
    into: Path | None,
    out: Path,
    name: str | None,
    system: str | None,
    source: str | None,
    wider: bool,
    replace: bool,
    as_json: bool,
) -> None:
    """Import local codes from ConceptMaps, $translate results and CSV tables into a site map.

    FILES are ConceptMap (R4 or R5), Parameters of $translate (or a batch-response Bundle of them), or CSV with the
    columns code and loinc, and if wanted system, name, unit, equivalence. Only `equal` and `equivalent` are taken;
    broader, narrower and related targets are counted. A code with two meanings is a conflict: none is taken, and the
    exit code is 3. Comments of a site map that is extended are not kept.

    Exit codes: 0 done, 2 usage error, 3 conflicts, or a file that cannot be read.
    """
    document: dict[str, Any] = {"name": name or out.stem}
    if into is not None:
        try:
            document = read_yaml(into.read_bytes(), into.name)
            check_document(document, into.name)
        except DefinitionError as error:
            raise InvalidInputError(f"--into {error}; correct it first") from None
        document |= {"name": name} if name else {}
    mappings = []
    for path in files:
        mappings += read_mappings(read_file(path), path.name, system=system, source=source)
    if not mappings:
        raise InvalidInputError(f"{', '.join(path.name for path in files)}: no mapping of a code; nothing was written")
    result = imported(mappings, document, wider=wider, replace=replace)
    check_document(result.document, out.name)
    with atomic_file(out) as stream:
        stream.write(yaml.safe_dump(result.document, sort_keys=False, allow_unicode=True, width=100).encode())
    report = {
        "out": str(out),
        "read": len(mappings),
        "taken": result.taken,
        "known": result.known,
        "refused": dict(sorted(result.refused.items())),
        "conflicts": result.conflicts,
    }
    click.echo(orjson.dumps(report, option=orjson.OPT_INDENT_2).decode() if as_json else "\n".join(_lines(report)))
    if result.conflicts:
        ctx.exit(BAD_INPUT)


@command.command()
@click.argument("export", type=click.Path(exists=True, path_type=Path))
@click.option("--site-map", type=SiteMapType(), help="Codes that it translates are left out.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Site map with the clear proposals.")
@click.option("--json", "as_json", is_flag=True, help="Print the proposals as JSON Lines.")
def suggest(export: Path, site_map: SiteMap | None, out: Path | None, as_json: bool) -> None:
    """Propose concepts for local codes of an export, by name, unit and range of values.

    EXPORT is a folder or file of FHIR (NDJSON or Bundles). A proposal is clear where one concept has the name, the unit
    converts and 95 % of the values are plausible. Proposals are to be read by someone who knows the laboratory: nothing
    is applied, and --out writes the clear ones as a draft.

    Exit codes: 0 done, 2 usage error, 3 no Observation with a local code.
    """
    codes = LocalCodes(site_map)
    for resource in _observations(export):
        codes.add(resource)
    found = codes.proposals()
    if not found:
        raise InvalidInputError(f"{export}: no Observation with a local code that is not mapped")
    for proposal in found:
        if as_json:
            click.echo(orjson.dumps(proposal.to_json()))
            continue
        meant = proposal.concept or "?"
        span = "" if proposal.low is None else f"{proposal.low:g} to {proposal.high:g} {proposal.unit}"
        mark = "clear" if proposal.clear else "check"
        click.echo(f"{proposal.code:<16}{proposal.count:>7}  {proposal.name[:32]:<33}{span:<24}{mark} {meant}")
        click.echo(f"{'':<25}{'; '.join(proposal.reasons)}")
    if out is not None:
        groups: dict[str, dict[str, str]] = {}
        for proposal in found:
            if proposal.clear and proposal.concept is not None:
                groups.setdefault(proposal.system, {})[proposal.code] = proposal.concept
        document = {"name": out.stem, "observations": [{"systems": [s], "items": i} for s, i in groups.items()]}
        check_document(document, out.name)
        with atomic_file(out) as stream:
            stream.write(b"# A draft by `riskcards site-map suggest`: check every line before use.\n")
            stream.write(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100).encode())
        click.echo(f"{out}: {sum(map(len, groups.values()))} of {len(found)} codes; check every line", err=True)


def _observations(export: Path) -> Iterator[dict[str, Any]]:
    """Yields the Observations of an export; a line that is no JSON is reported and skipped."""
    files = [export] if export.is_file() else [*line_files(export), *bundle_files(export)]
    for path in files:
        if path.name.removesuffix(".gz").endswith(".json"):
            content = decode_json(read_file(path))
            entries = content.get("entry") if isinstance(content, dict) else content
            listed = entries if isinstance(entries, list) else [content]
            yield from filter(_is_observation, (e.get("resource", e) for e in listed if isinstance(e, dict)))
            continue
        for number, line in lines_of(path, path.name, lambda place, why: click.echo(f"{place}: {why}", err=True)):
            if b"Observation" not in line:
                continue
            try:
                resource = decode_json(line)
            except FhirMappingError as error:
                click.echo(f"{path.name}:{number}: {error}", err=True)
                continue
            if _is_observation(resource):
                yield resource


def _is_observation(resource: Any) -> bool:
    return isinstance(resource, dict) and resource.get("resourceType") == "Observation"


def _lines(report: dict[str, Any]) -> Iterator[str]:
    yield f"{report['out']}: {report['taken']} codes taken, {report['known']} known already, of {report['read']} read"
    for reason, count in report["refused"].items():
        yield f"  not taken: {count} {reason}"
    yield from (f"  conflict: {line}" for line in report["conflicts"][:_SHOWN])
    if len(report["conflicts"]) > _SHOWN:
        yield f"  ... and {len(report['conflicts']) - _SHOWN} more conflicts; --json lists all"
