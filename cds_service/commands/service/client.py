"""`riskcards client`: the CDS clients whose tokens are accepted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import orjson

from cds_service.access.clients import CdsClient, ClientsError, client_of, read_clients, with_keys, write_clients
from cds_service.commands.shared.opened import opened_settings
from cds_service.commands.shared.running import running_services


@click.group(name="client")
def command() -> None:
    """Add, list, change and remove the EHRs that may call this service.

    They are stored in the file of RISKCARDS_CDS_CLIENTS (or --file); a running service reloads it by itself.

    \b
    riskcards client add general --issuer https://ehr.example.org \\
        --jwks-url https://ehr.example.org/jwks.json --fhir-server https://ehr.example.org/fhir
    riskcards client rotate general --jwks new-keys.json
    riskcards client list
    """


_file = click.option("--file", "path", type=click.Path(dir_okay=False, path_type=Path), help="The clients file.")
_jwks = click.option(
    "--jwks",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with its public keys (JWK set), pinned.",
)
_jwks_url = click.option("--jwks-url", default="", help="URL of its public keys (JWK set, https).")


@command.command()
@click.argument("name")
@click.option("--issuer", required=True, help="The exact `iss` of its tokens.")
@_jwks
@_jwks_url
@click.option(
    "--fhir-server", "servers", multiple=True, help="A FHIR base URL that its requests may use; may be repeated."
)
@click.option("--tenant", "tenants", multiple=True, help="An accepted tenant claim; may be repeated.")
@click.option(
    "--algorithm", "algorithms", multiple=True, help="An accepted signature algorithm.  [default: ES384 and RS384]"
)
@click.option("--max-lifetime", default=300, show_default=True, help="Longest accepted token lifetime, in seconds.")
@click.option(
    "--jku", "jku", multiple=True, help="A URL that the `jku` of its tokens may name besides --jwks-url; never fetched."
)
@_file
def add(
    name: str,
    issuer: str,
    jwks: Path | None,
    jwks_url: str,
    servers: tuple[str, ...],
    tenants: tuple[str, ...],
    algorithms: tuple[str, ...],
    max_lifetime: int,
    jku: tuple[str, ...],
    path: Path | None,
) -> None:
    """Accept tokens of a new issuer."""
    place = _place(path)
    known = _read(place) if place.exists() else ()
    if any(client.name == name or client.issuer == issuer for client in known):
        raise click.UsageError(f"client {name!r} or issuer {issuer!r} exists already; see `riskcards client list`")
    item = {
        "name": name,
        "issuer": issuer,
        "jwks": None if jwks is None else _json(jwks),
        "jwks_url": jwks_url,
        "fhir_servers": list(servers),
        "tenants": list(tenants),
        "algorithms": list(algorithms),
        "max_lifetime": max_lifetime,
        "jku": list(jku),
    }
    try:
        clients = [*known, client_of(item, name)]
    except ClientsError as error:
        raise click.UsageError(str(error)) from None
    _write(place, clients)
    click.echo(f"{name}: accepted ({place})")
    _confirm(place, clients)


@command.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="For programs to read.")
@_file
def list_(as_json: bool, path: Path | None) -> None:
    """List the clients with their keys, algorithms and FHIR servers."""
    clients = _read(_place(path))
    if as_json:
        click.echo(orjson.dumps([client.to_json() for client in clients], option=orjson.OPT_INDENT_2).decode())
        return
    for client in clients:
        keys = f"pinned {', '.join(sorted(client.keys))}" if client.keys else client.jwks_url
        click.echo(f"{client.name}\n  issuer        {client.issuer}\n  keys          {keys}")
        click.echo(f"  algorithms    {', '.join(client.algorithms)}; tokens valid up to {client.max_lifetime} s")
        click.echo(f"  FHIR servers  {', '.join(client.fhir_servers) or 'none: prefetch only'}")
        if client.jku:
            click.echo(f"  jku           {', '.join(client.jku)}")
        if client.tenants:
            click.echo(f"  tenants       {', '.join(client.tenants)}")


@command.command()
@click.argument("name")
@_file
def remove(name: str, path: Path | None) -> None:
    """Stop accepting tokens of this client."""
    place = _place(path)
    clients = _read(place)
    _named(clients, name)
    left = [client for client in clients if client.name != name]
    _write(place, left)
    click.echo(f"{name}: removed ({place})")
    _confirm(place, left)


@command.command()
@click.argument("name")
@_jwks
@_jwks_url
@_file
def rotate(name: str, jwks: Path | None, jwks_url: str, path: Path | None) -> None:
    """Replace a client's keys. Keep the old key in the set until its last token has expired."""
    place = _place(path)
    clients = _read(place)
    old = _named(clients, name)
    try:
        new = with_keys(old, None if jwks is None else _json(jwks), jwks_url)
    except ClientsError as error:
        raise click.UsageError(str(error)) from None
    changed = [new if client is old else client for client in clients]
    _write(place, changed)
    click.echo(f"{name}: keys replaced ({place})")
    _confirm(place, changed)


def _place(path: Path | None) -> Path:
    given = path or opened_settings().cds_clients
    if not given:
        raise click.UsageError("no clients file: set RISKCARDS_CDS_CLIENTS or give --file clients.json")
    return Path(given)


def _write(place: Path, clients: list[CdsClient]) -> None:
    try:
        write_clients(place, clients)
    except ClientsError as error:
        raise click.ClickException(str(error)) from None


def _confirm(place: Path, clients: list[CdsClient]) -> None:
    """Asks the running service of this user whether it has the change. Raises ClickException if it cannot read it."""
    wanted = sorted(client.name for client in clients)
    for service in running_services(opened_settings()):
        if not service.settings.cds_clients or Path(service.settings.cds_clients).resolve() != place.resolve():
            continue
        for answer in service.ask_workers({"ask": "clients"}):
            if answer["fault"] or answer["clients"] != wanted:
                why = answer["fault"] or "it still accepts the clients from before"
                raise click.ClickException(f"{service.settings.public_url} has not taken over the change: {why}")
        click.echo(f"{service.settings.public_url}: taken over")


def _read(place: Path) -> tuple[CdsClient, ...]:
    try:
        return read_clients(place)
    except ClientsError as error:
        raise click.UsageError(str(error)) from None


def _named(clients: tuple[CdsClient, ...], name: str) -> CdsClient:
    for client in clients:
        if client.name == name:
            return client
    raise click.UsageError(f"no client {name!r}; known clients: {', '.join(c.name for c in clients) or 'none'}")


def _json(path: Path) -> Any:
    try:
        return orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise click.UsageError(f"{path}: not JSON: {error.msg}") from None
