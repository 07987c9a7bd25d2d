"""Every command and its options, in one place; each loads the code that does the work only when it runs."""
# ruff: noqa: PLC0415 - `check` must not pay for the database, nor `--help` for anything

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from evidence_service.cli.output import Output
from evidence_service.cli.session import Session

PROGRAM = "fas-evidence"
EXIT_CODES = (
    "Exit codes: 0 done or allow, 1 deny or negative answer, 2 wrong usage or bad input, 3 a dependency failed, "
    "130 interrupted, 141 the reader of the output went away."
)

_HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def _group(text: str) -> typer.Typer:
    return typer.Typer(
        help=text, no_args_is_help=True, rich_markup_mode=None, add_completion=False, context_settings=_HELP
    )


app = typer.Typer(
    name=PROGRAM,
    help="Checks the SAML evidence behind every Citrix FAS sign-in and launch.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=_HELP,
)
idp_app = _group("Identity providers: their metadata, certificates and policies.")
key_app = _group("Signing keys of identity providers: trusted or revoked.")
rollover_app = _group("New signing keys that wait for a person.")
alarm_app = _group("What needs a person.")
rule_app = _group("FAS rules: what is special about requests that name one.")
plugin_app = _group("Plug-in identities: which FAS servers may ask.")
authcert_app = _group("Authorization certificates of FAS servers: their renewal.")
notify_app = _group("Messages to people: whether they arrive.")
demo_app = typer.Typer(invoke_without_command=True, rich_markup_mode=None, add_completion=False, context_settings=_HELP)
demo_ca_app = _group("The CA of a demo that runs in another terminal: play its manager.")
demo_app.add_typer(demo_ca_app, name="ca")
decision_app = _group("Recorded decisions.")
db_app = _group("The database.")
config_app = _group("The configuration of this machine.")
for _name, _sub in (
    ("idp", idp_app),
    ("key", key_app),
    ("rollover", rollover_app),
    ("alarm", alarm_app),
    ("rule", rule_app),
    ("plugin", plugin_app),
    ("authcert", authcert_app),
    ("notify", notify_app),
    ("demo", demo_app),
    ("decision", decision_app),
    ("db", db_app),
    ("config", config_app),
):
    app.add_typer(_sub, name=_name)

OutputOption = Annotated[Output, typer.Option("-o", "--output", help="How to print.", show_default=True)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do it without asking.")]
EntityId = Annotated[str, typer.Argument(metavar="ENTITY_ID", help="The IdP's entity ID, exactly as in its metadata.")]
DecisionId = Annotated[
    str, typer.Argument(metavar="DECISION_ID", help="The id that the plug-in was answered; `decision list` shows it.")
]
Port = Annotated[
    int | None, typer.Option("--port", min=0, max=65535, help="Port to listen on, instead of the setting's.")
]
ConfigOption = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Settings file (TOML).")]

GLOBAL_OPTIONS = ("--config", "--database", "--debug")


def hint(option: str, words: list[str], path: str) -> str:
    """What to do about wrong usage: where a global option belongs, or where the help is."""
    if option in GLOBAL_OPTIONS and option in words:
        value = {"--config": " FILE", "--database": " URL"}.get(option, "")
        return f"{option} stands before the command: `{PROGRAM} {option}{value} {path.removeprefix(PROGRAM).strip()}`"
    return f"see `{path} --help`"


def _print_version(value: bool) -> None:  # noqa: FBT001 - typer calls it so
    if value:
        from importlib.metadata import version

        typer.echo(f"{PROGRAM} {version('fas-logon-evidence')}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    *,
    config: ConfigOption = None,
    database: Annotated[
        str | None, typer.Option("--database", metavar="URL", help="Use this database instead of the configured one.")
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show a stack trace for an internal error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Check the SAML evidence behind every Citrix FAS sign-in and launch."""
    del debug, version
    context.obj = Session(config=config, database=database)


def _session(context: typer.Context) -> Session:
    session = context.find_root().obj
    assert isinstance(session, Session)  # noqa: S101 - `root` always runs first
    return session


@app.command(epilog=EXIT_CODES)
def check(
    *,
    file: Annotated[
        str | None,
        typer.Argument(metavar="FILE", help="A captured SAML Response: raw XML or its base64; `-` is stdin."),
    ] = None,
    metadata: Annotated[
        Path | None, typer.Option("--metadata", metavar="FILE", help="Metadata of the IdP, or of many.")
    ] = None,
    upn: Annotated[str | None, typer.Option("--upn", help="The UPN that FAS presented.")] = None,
    at: Annotated[
        str | None, typer.Option("--at", metavar="INSTANT", help="Judge at this UTC instant, 2026-01-31T12:00:00Z.")
    ] = None,
    policy: Annotated[
        Path | None, typer.Option("--policy", metavar="FILE", help="Policy (TOML); without one nobody is allowed.")
    ] = None,
    phase: Annotated[
        Literal["prepare", "assert"] | None, typer.Option("--phase", help="StoreFront sign-in or VDA launch.")
    ] = None,
    rule: Annotated[str | None, typer.Option("--rule", help="The FAS rule that is asked for.")] = None,
    batch: Annotated[
        str | None,
        typer.Option("--batch", metavar="FILE", help="Judge many: one JSON object a line; `-` is stdin."),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> int:
    """Judge captured evidence offline. Nothing is recorded.

    The table shows every check, with what was expected and presented; JSON holds the decision and its findings.
    Whether the evidence was used before is not judged. A batch line holds "id", "file", "metadata", "upn" and may hold
    "at", "policy", "phase", "rule"; paths are relative to the batch file. Each answers one JSON line, in order.
    """
    if batch is not None:
        from evidence_service.cli.batch import judge_batch, refuse_single_options

        refuse_single_options(file=file, metadata=metadata, upn=upn, at=at, policy=policy, phase=phase, rule=rule)
        return judge_batch(batch)
    from evidence_service.cli.check import judge_file

    return judge_file(file=file, metadata=metadata, upn=upn, at=at, policy=policy, phase=phase, rule=rule, form=output)


@app.command()
def reason(
    code: Annotated[str | None, typer.Argument(metavar="CODE", help="A reason code; without one, all.")] = None,
    *,
    output: OutputOption = Output.TABLE,
) -> int:
    """Say what a reason code means and what to do about it."""
    from evidence_service.cli.reasons import explain_reason, list_reasons

    return list_reasons(output) if code is None else explain_reason(code, output)


@app.command(epilog=EXIT_CODES)
def explain(
    context: typer.Context,
    decision_id: DecisionId,
    *,
    output: OutputOption = Output.TABLE,
) -> int:
    """Judge a recorded decision again, and show every check.

    Exits 1 if the outcome differs from the recorded one.
    """
    from evidence_service.cli.decisions import explain_decision

    return explain_decision(_session(context), decision_id, output)


@idp_app.command("add")
def idp_add(
    context: typer.Context,
    *,
    metadata: Annotated[
        Path | None, typer.Option("--metadata", metavar="FILE", help="The IdP's metadata.", show_default=False)
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option(
            "--certificate",
            metavar="FILE",
            help="All its signing certificates (PEM, DER, PKCS #7) where it has no metadata; with --entity-id.",
        ),
    ] = None,
    policy: Annotated[
        Path | None, typer.Option("--policy", metavar="FILE", help="Policy (TOML); a known IdP keeps its own.")
    ] = None,
    entity_id: Annotated[
        str | None, typer.Option("--entity-id", metavar="ID", help="Which IdP, if the metadata describes several.")
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> int:
    """Register an IdP, or update it, from its metadata.

    Take the metadata from a source that you trust: whoever wrote it decides which keys may sign.
    On a terminal it shows them and asks; elsewhere, as in a script, it does not, as with --yes.
    """
    from evidence_service.cli.idps import add_idp

    return add_idp(
        _session(context),
        metadata=metadata,
        certificate=certificate,
        policy=policy,
        entity_id=entity_id,
        dry_run=dry_run,
        confirmed=yes,
    )


@idp_app.command("subscribe")
def idp_subscribe(  # noqa: PLR0913 - options
    context: typer.Context,
    url: Annotated[str, typer.Argument(metavar="URL", help="The https address of its metadata.")],
    *,
    entity_id: Annotated[
        str | None, typer.Option("--entity-id", metavar="ID", help="Which IdP, if the metadata describes several.")
    ] = None,
    policy: Annotated[
        Path | None, typer.Option("--policy", metavar="FILE", help="Policy (TOML); a known IdP keeps its own.")
    ] = None,
    acceptance: Annotated[
        Literal["continuity", "tls", "approval"] | None,
        typer.Option(
            "--acceptance",
            help="What makes a new key acceptable: an old key's signature, verified TLS alone, or only a person.",
        ),
    ] = None,
    ca: Annotated[
        Path | None,
        typer.Option("--ca", metavar="PEM", help="Its server's certificate authority, instead of the system's."),
    ] = None,
    pin: Annotated[
        str | None, typer.Option("--pin", metavar="SHA256", help="Its server's certificate must have this SHA-256.")
    ] = None,
    metadata_certificate: Annotated[
        Path | None,
        typer.Option(
            "--metadata-certificate", metavar="FILE", help="The document must be signed by it (federation operator)."
        ),
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    output: OutputOption = Output.TABLE,
) -> int:
    """Fetch an IdP's metadata now, and by itself from then on.

    Shows what it says. A new IdP is registered by your word; what a registered one says is judged by what is trusted.
    Exits 1 where certificates wait for approval, 3 where the metadata cannot be had.
    """
    from evidence_service.cli.sources import Asked, subscribe

    asked = Asked(
        url=url,
        entity_id=entity_id,
        policy=policy,
        acceptance=acceptance,
        ca=ca,
        pin=pin,
        metadata_certificate=metadata_certificate,
    )
    return subscribe(_session(context), asked, dry_run=dry_run, confirmed=yes, form=output)


@idp_app.command("unsubscribe")
def idp_unsubscribe(context: typer.Context, entity_id: EntityId, *, dry_run: DryRun = False) -> int:
    """Fetch an IdP's metadata no more; what is trusted stays."""
    from evidence_service.cli.sources import unsubscribe

    return unsubscribe(_session(context), entity_id, dry_run=dry_run)


@idp_app.command("refresh")
def idp_refresh(
    context: typer.Context, entity_id: EntityId, *, dry_run: DryRun = False, output: OutputOption = Output.TABLE
) -> int:
    """Fetch an IdP's metadata now.

    Takes over what is vouched for.

    Exits 1 where certificates wait for approval, 3 where the metadata cannot be had or is refused.
    """
    from evidence_service.cli.sources import refresh

    return refresh(_session(context), entity_id, dry_run=dry_run, form=output)


@idp_app.command("diff")
def idp_diff(
    context: typer.Context,
    entity_id: EntityId,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="Metadata; without it, its source is asked.", show_default=False),
    ] = None,
    *,
    output: OutputOption = Output.TABLE,
) -> int:
    """Compare an IdP's metadata with what is held.

    Changes nothing.

    Exits 0 where it is the same, 1 where it is not, 3 where the metadata cannot be had.
    """
    from evidence_service.cli.sources import diff

    return diff(_session(context), entity_id, file, output)


@idp_app.command("list")
def idp_list(context: typer.Context, *, output: OutputOption = Output.TABLE) -> int:
    """List the identity providers."""
    from evidence_service.cli.idps import list_idps

    return list_idps(_session(context), output)


@idp_app.command("show")
def idp_show(context: typer.Context, entity_id: EntityId, *, output: OutputOption = Output.TABLE) -> int:
    """Show an IdP's policy and certificates."""
    from evidence_service.cli.idps import show_idp

    return show_idp(_session(context), entity_id, output)


@idp_app.command("remove")
def idp_remove(context: typer.Context, entity_id: EntityId, *, yes: Yes = False, dry_run: DryRun = False) -> int:
    """Remove an IdP: its evidence is denied from then on."""
    from evidence_service.cli.idps import remove_idp

    return remove_idp(_session(context), entity_id, confirmed=yes, dry_run=dry_run)


@idp_app.command("enable")
def idp_enable(context: typer.Context, entity_id: EntityId, *, dry_run: DryRun = False) -> int:
    """Enable an IdP again."""
    from evidence_service.cli.idps import set_enabled

    return set_enabled(_session(context), entity_id, enabled=True, dry_run=dry_run)


@idp_app.command("disable")
def idp_disable(context: typer.Context, entity_id: EntityId, *, dry_run: DryRun = False) -> int:
    """Disable an IdP: its evidence is denied until enabled again."""
    from evidence_service.cli.idps import set_enabled

    return set_enabled(_session(context), entity_id, enabled=False, dry_run=dry_run)


@idp_app.command("policy")
def idp_policy(
    context: typer.Context,
    entity_id: EntityId,
    *,
    policy: Annotated[Path, typer.Option("--policy", metavar="FILE", help="The new policy (TOML), whole.")],
    dry_run: DryRun = False,
) -> int:
    """Replace an IdP's policy."""
    from evidence_service.cli.idps import set_policy

    return set_policy(_session(context), entity_id, policy, dry_run=dry_run)


KeyDigest = Annotated[
    str, typer.Argument(metavar="SHA256", help="The certificate's SHA-256, or at least its first 8 digits.")
]
KeyIdp = Annotated[str, typer.Option("--idp", metavar="ENTITY_ID", help="The IdP that signs with it.")]
KeyNote = Annotated[str, typer.Option("--note", metavar="TEXT", help="Why; kept in the journal of changes.")]


@key_app.command("list")
def key_list(
    context: typer.Context,
    entity_id: Annotated[
        str | None, typer.Argument(metavar="[ENTITY_ID]", help="Of this IdP only.", show_default=False)
    ] = None,
    *,
    output: OutputOption = Output.TABLE,
) -> int:
    """List signing keys and whether they are trusted."""
    from evidence_service.cli.keys import list_keys

    return list_keys(_session(context), entity_id, output)


@key_app.command("show")
def key_show(context: typer.Context, sha256: KeyDigest, *, idp: KeyIdp, output: OutputOption = Output.TABLE) -> int:
    """Show where a key came from, its whole history and its use."""
    from evidence_service.cli.keys import show_key

    return show_key(_session(context), sha256, entity_id=idp, form=output)


@key_app.command("revoke")
def key_revoke(
    context: typer.Context,
    sha256: KeyDigest,
    *,
    idp: KeyIdp,
    note: KeyNote = "",
    yes: Yes = False,
    dry_run: DryRun = False,
) -> int:
    """Revoke a stolen key: all that it signed is denied at once.

    It concerns every certificate for the same key, also at other IdPs and in metadata that is imported later. A running
    service obeys within two seconds.
    """
    from evidence_service.cli.keys import change_key
    from idp_certs.rollover import Event

    return change_key(_session(context), sha256, Event.REVOKE, entity_id=idp, note=note, confirmed=yes, dry_run=dry_run)


@key_app.command("reinstate")
def key_reinstate(
    context: typer.Context,
    sha256: KeyDigest,
    *,
    idp: KeyIdp,
    note: KeyNote = "",
    yes: Yes = False,
    dry_run: DryRun = False,
) -> int:
    """Trust a revoked or retired key again."""
    from evidence_service.cli.keys import change_key
    from idp_certs.rollover import Event

    return change_key(
        _session(context), sha256, Event.REINSTATE, entity_id=idp, note=note, confirmed=yes, dry_run=dry_run
    )


@key_app.command("retire")
def key_retire(
    context: typer.Context,
    sha256: KeyDigest,
    *,
    idp: KeyIdp,
    note: KeyNote = "",
    yes: Yes = False,
    dry_run: DryRun = False,
) -> int:
    """Retire a key: what it signed before stays good, nothing newer.

    For a key that the IdP no longer uses; one that it does use, or the last one, needs a confirmation. Never for a
    stolen one: whoever has it can write any date; revoke it.
    """
    from evidence_service.cli.keys import change_key
    from idp_certs.rollover import Event

    return change_key(_session(context), sha256, Event.RETIRE, entity_id=idp, note=note, confirmed=yes, dry_run=dry_run)


@key_app.command("approve")
def key_approve(
    context: typer.Context, sha256: KeyDigest, *, idp: KeyIdp, note: KeyNote = "", dry_run: DryRun = False
) -> int:
    """Trust a key that was announced, or that waits for approval."""
    from evidence_service.cli.keys import change_key
    from idp_certs.rollover import Event

    return change_key(
        _session(context), sha256, Event.APPROVE, entity_id=idp, note=note, confirmed=True, dry_run=dry_run
    )


RolloverId = Annotated[
    str, typer.Argument(metavar="ID", help="As `rollover list` shows it, or at least its first 8 digits.")
]


@rollover_app.command("list")
def rollover_list(
    context: typer.Context,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Also those that are decided.")] = False,
    output: OutputOption = Output.TABLE,
) -> int:
    """List the new keys that wait for approval."""
    from evidence_service.cli.rollovers import list_rollovers

    return list_rollovers(_session(context), output, everything=everything)


@rollover_app.command("show")
def rollover_show(context: typer.Context, rollover_id: RolloverId, *, output: OutputOption = Output.TABLE) -> int:
    """Show the certificates that wait, and why."""
    from evidence_service.cli.rollovers import show_rollover

    return show_rollover(_session(context), rollover_id, output)


@rollover_app.command("approve")
def rollover_approve(
    context: typer.Context, rollover_id: RolloverId, *, note: KeyNote = "", yes: Yes = False, dry_run: DryRun = False
) -> int:
    """Trust the certificates that wait.

    Compare their fingerprints with the IdP's administrator first: whoever has the keys can sign in as anybody.
    """
    from evidence_service.cli.rollovers import approve

    return approve(_session(context), rollover_id, note=note, confirmed=yes, dry_run=dry_run)


@rollover_app.command("reject")
def rollover_reject(
    context: typer.Context, rollover_id: RolloverId, *, note: KeyNote = "", dry_run: DryRun = False
) -> int:
    """Turn down the certificates that wait; they may be approved later."""
    from evidence_service.cli.rollovers import reject

    return reject(_session(context), rollover_id, note=note, dry_run=dry_run)


@alarm_app.command("list")
def alarm_list(context: typer.Context, *, output: OutputOption = Output.TABLE) -> int:
    """List what needs a person."""
    from evidence_service.cli.rollovers import list_alarms

    return list_alarms(_session(context), output)


@rule_app.command("set")
def rule_set(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The FAS rule's name.")],
    *,
    mode: Annotated[
        Literal["enforce", "observe"],
        typer.Option("--mode", help="`observe` answers allow to everything and only records."),
    ] = "enforce",
    max_age: Annotated[
        str | None, typer.Option("--max-age", metavar="DURATION", help="Accepted age of evidence, as 4h or 90m.")
    ] = None,
    idp: Annotated[
        list[str] | None, typer.Option("--idp", metavar="ENTITY_ID", help="Only these IdPs; may be repeated.")
    ] = None,
    dry_run: DryRun = False,
) -> int:
    """Add or replace a rule.

    As soon as there is one, requests that name any other rule are denied.
    """
    from evidence_service.cli.rules import set_rule

    return set_rule(_session(context), name, mode=mode, max_age=max_age, entity_ids=tuple(idp or ()), dry_run=dry_run)


@rule_app.command("list")
def rule_list(context: typer.Context, *, output: OutputOption = Output.TABLE) -> int:
    """List the rules."""
    from evidence_service.cli.rules import list_rules

    return list_rules(_session(context), output)


@rule_app.command("remove")
def rule_remove(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The rule, as `rule list` shows it.")],
    *,
    dry_run: DryRun = False,
) -> int:
    """Remove a rule. Without any, every FAS rule is accepted and enforced."""
    from evidence_service.cli.rules import remove_rule

    return remove_rule(_session(context), name, dry_run=dry_run)


PluginName = Annotated[str, typer.Argument(metavar="NAME", help="One name per FAS server.")]
PluginCertificate = Annotated[
    Path | None,
    typer.Option("--certificate", metavar="PEM", help="Register this client certificate, issued by whichever CA."),
]
PluginBearer = Annotated[bool, typer.Option("--bearer", help="Make a key for a plug-in on this machine; shown once.")]
PluginCsr = Annotated[
    Path | None,
    typer.Option("--csr-out", metavar="PEM", help="Only make a key and this certificate request, for your own CA."),
]
PluginOut = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="Where the files of the FAS server go (default: here).")
]
PluginDays = Annotated[
    int | None, typer.Option("--days", min=1, max=3650, help="Validity of a new certificate (default: 825).")
]
PluginService = Annotated[
    list[str] | None,
    typer.Option(
        "--service", metavar="URL", help="Write the plug-in's settings, to ask at this https address; may be repeated."
    ),
]
PluginPin = Annotated[
    list[Path] | None,
    typer.Option(
        "--server-certificate",
        metavar="PEM",
        help="The service's own certificate, for the settings (default: tls_certificate); repeat it for the next one.",
    ),
]
PluginStore = Annotated[
    bool,
    typer.Option("--store", help="The PFX will be imported into LocalMachine\\My; its password is shown once."),
]


@plugin_app.command("enroll")
def plugin_enroll(  # noqa: PLR0913 - options
    context: typer.Context,
    name: PluginName,
    *,
    certificate: PluginCertificate = None,
    bearer: PluginBearer = False,
    csr_out: PluginCsr = None,
    service: PluginService = None,
    server_certificate: PluginPin = None,
    store: PluginStore = False,
    out: PluginOut = None,
    days: PluginDays = None,
    dry_run: DryRun = False,
) -> int:
    """Let a FAS server ask.

    Makes a client certificate for it, or registers one that it has.
    With --service, what the FAS server needs is written ready to copy: its settings, and the new key as PFX.
    """
    from evidence_service.cli.plugins import Wanted, enroll

    wanted = Wanted(
        certificate=certificate,
        bearer=bearer,
        csr_out=csr_out,
        out=out,
        days=days,
        services=tuple(service or ()),
        server_certificates=tuple(server_certificate or ()),
        store=store,
    )
    return enroll(_session(context), name, wanted, dry_run=dry_run)


@plugin_app.command("rotate")
def plugin_rotate(  # noqa: PLR0913 - options
    context: typer.Context,
    name: PluginName,
    *,
    finish: Annotated[bool, typer.Option("--finish", help="End the old credential: the plug-in uses the new.")] = False,
    certificate: PluginCertificate = None,
    bearer: PluginBearer = False,
    csr_out: PluginCsr = None,
    service: PluginService = None,
    server_certificate: PluginPin = None,
    store: PluginStore = False,
    out: PluginOut = None,
    days: PluginDays = None,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> int:
    """Give an enrolled FAS server a second credential.

    Both are good until --finish, so that no launch fails.
    """
    from evidence_service.cli.plugins import Wanted, rotate

    wanted = Wanted(
        certificate=certificate,
        bearer=bearer,
        csr_out=csr_out,
        out=out,
        days=days,
        services=tuple(service or ()),
        server_certificates=tuple(server_certificate or ()),
        store=store,
    )
    return rotate(_session(context), name, wanted, finish=finish, confirmed=yes, dry_run=dry_run)


@plugin_app.command("test")
def plugin_test(
    *,
    settings: Annotated[
        Path, typer.Option("--settings", metavar="FILE", help="The plug-in's settings file, as on the FAS server.")
    ],
    upn: Annotated[str | None, typer.Option("--upn", help="Ask for this user, with --evidence.")] = None,
    evidence: Annotated[
        Path | None, typer.Option("--evidence", metavar="FILE", help="A captured SAML Response: XML or its base64.")
    ] = None,
    output: OutputOption = Output.TABLE,
) -> int:
    """Ask the service as the plug-in would.

    Asks every address, without evidence; or once, with --upn and --evidence. Without evidence the right answer is a
    deny, and it proves address, TLS and identity. Questions are recorded.
    """
    from evidence_service.cli.plugin_trial import trial

    return trial(settings, upn=upn, evidence=evidence, form=output)


@plugin_app.command("list")
def plugin_list(context: typer.Context, *, output: OutputOption = Output.TABLE) -> int:
    """List the plug-ins: one row for each credential."""
    from evidence_service.cli.plugins import list_plugins

    return list_plugins(_session(context), output)


@plugin_app.command("revoke")
def plugin_revoke(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The plug-in, as `plugin list` shows it.")],
    *,
    sha256: Annotated[
        str | None, typer.Option("--sha256", metavar="HEX", help="This credential only; `plugin list` shows it.")
    ] = None,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> int:
    """Revoke a plug-in with all of its credentials, or one.

    Within two seconds it can no longer ask.
    """
    from evidence_service.cli.plugins import revoke

    return revoke(_session(context), name, sha256=sha256, confirmed=yes, dry_run=dry_run)


FasServerName = Annotated[str, typer.Argument(metavar="NAME", help="The FAS server, as `authcert status` shows it.")]
RenewalNote = Annotated[str, typer.Option("--note", metavar="TEXT", help="Why; kept in the journal.")]


@authcert_app.command("status")
def authcert_status(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="One server, with all that is known.")] = None,
    *,
    output: OutputOption = Output.TABLE,
) -> int:
    """Show when certificates expire, and what is done next and why."""
    from evidence_service.cli.authcert import status

    return status(_session(context), name, output)


@authcert_app.command("renew")
def authcert_renew(
    context: typer.Context,
    name: FasServerName,
    *,
    note: RenewalNote = "",
    yes: Yes = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show every cmdlet that a renewal would call now, and change nothing.")
    ] = False,
    output: Annotated[
        Output, typer.Option("-o", "--output", help="How to print the dry run.", show_default=True)
    ] = Output.TABLE,
) -> int:
    """Renew a server's authorization certificate now.

    The request waits at the CA until the CA manager issues it; everything after that goes by itself.
    """
    from evidence_service.cli.authcert import renew

    return renew(_session(context), name, note=note, confirmed=yes, dry_run=dry_run, form=output)


@authcert_app.command("withdraw")
def authcert_withdraw(
    context: typer.Context,
    name: FasServerName,
    *,
    note: RenewalNote = "",
    yes: Yes = False,
    dry_run: DryRun = False,
) -> int:
    """Withdraw a server's open request.

    A certificate that was issued and is not used yet is removed as well. What the server uses stays as it is.
    """
    from evidence_service.cli.authcert import withdraw

    return withdraw(_session(context), name, note=note, confirmed=yes, dry_run=dry_run)


@authcert_app.command("rollback")
def authcert_rollback(
    context: typer.Context,
    name: FasServerName,
    *,
    note: RenewalNote = "",
    yes: Yes = False,
    dry_run: DryRun = False,
) -> int:
    """Go back to the certificate that a server used before.

    That is possible while the server has it.
    """
    from evidence_service.cli.authcert import roll_back

    return roll_back(_session(context), name, note=note, confirmed=yes, dry_run=dry_run)


@authcert_app.command("import")
def authcert_import(
    context: typer.Context,
    name: FasServerName,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The signed answer: PKCS #7 (.p7b), DER or PEM.")],
    *,
    note: RenewalNote = "",
    yes: Yes = False,
    dry_run: DryRun = False,
) -> int:
    """Bring the signed answer to a request that was made as a file.

    The certificate in it is shown, with the request that it answers, before you are asked.
    """
    from evidence_service.cli.authcert import import_response

    return import_response(_session(context), name, file, note=note, confirmed=yes, dry_run=dry_run)


@authcert_app.command("pause")
def authcert_pause(
    context: typer.Context,
    name: FasServerName,
    *,
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="WHEN", help="A UTC instant, or a duration such as 2d; else until `resume`."),
    ] = None,
    note: RenewalNote = "",
    dry_run: DryRun = False,
) -> int:
    """Begin nothing at a server for a while. It is watched, and its alarms go on."""
    from evidence_service.cli.authcert import pause

    return pause(_session(context), name, until=until, note=note, dry_run=dry_run)


@authcert_app.command("resume")
def authcert_resume(
    context: typer.Context, name: FasServerName, *, note: RenewalNote = "", dry_run: DryRun = False
) -> int:
    """End a pause."""
    from evidence_service.cli.authcert import resume

    return resume(_session(context), name, note=note, dry_run=dry_run)


@authcert_app.command("history")
def authcert_history(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="One server; without it, all.")] = None,
    *,
    limit: Annotated[int, typer.Option("--limit", min=1, max=500, help="The latest so many acts.")] = 50,
    before: Annotated[
        str | None, typer.Option("--before", metavar="INSTANT", help="Older than this UTC instant.")
    ] = None,
    output: OutputOption = Output.TABLE,
) -> int:
    """Show what was done and said at the servers, by whom and why."""
    from evidence_service.cli.authcert import history

    return history(_session(context), name, limit=limit, before=before, form=output)


@authcert_app.command("preflight", epilog=EXIT_CODES)
def authcert_preflight(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="One server; without it, all.")] = None,
    *,
    test: Annotated[
        bool, typer.Option("--test", help="Also have FAS enroll the test user (`test_upn`) by each rule.")
    ] = False,
    output: OutputOption = Output.TABLE,
) -> int:
    """Check whether everything is ready for a renewal.

    Looked at are rights, CA, templates, definitions and lead. Exits 1 where something fails, 3 where a server does
    not answer.
    """
    from evidence_service.cli.authcert import preflight

    return preflight(_session(context), name, test=test, form=output)


@notify_app.command("test", epilog=EXIT_CODES)
def notify_test(
    context: typer.Context,
    *,
    channel: Annotated[
        str | None, typer.Option("--channel", metavar="NAME", help="By this one alone: `mail`, or a webhook's name.")
    ] = None,
    to: Annotated[
        Literal["approvers", "operators"], typer.Option("--to", help="Who is written to.", show_default=True)
    ] = "operators",
) -> int:
    """Send a test message by each channel now, and say what came of it."""
    from evidence_service.cli.notify import test
    from evidence_service.notices.model import Audience

    return test(_session(context), channel, Audience(to))


@notify_app.command("list")
def notify_list(
    context: typer.Context,
    *,
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=500, help="The latest so many, beside all undelivered.")
    ] = 50,
    output: OutputOption = Output.TABLE,
) -> int:
    """List the messages that did not reach people, and the last ones."""
    from evidence_service.cli.notify import list_messages

    return list_messages(_session(context), output, limit)


@notify_app.command("show")
def notify_show(
    context: typer.Context,
    message: Annotated[str, typer.Argument(metavar="ID", help="The id of a message, or its beginning.")],
) -> int:
    """Show the whole of a message, also where it was cut.

    Those that went out as one with it are shown too.
    """
    from evidence_service.cli.notify import show

    return show(_session(context), message)


@decision_app.command("list")
def decision_list(
    context: typer.Context,
    *,
    since: Annotated[
        str | None, typer.Option("--since", metavar="INSTANT", help="At this UTC instant or later.")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="INSTANT", help="Before this UTC instant.")] = None,
    upn: Annotated[str | None, typer.Option("--upn", help="Of this user.")] = None,
    reason: Annotated[str | None, typer.Option("--reason", metavar="CODE", help="With this reason code.")] = None,
    decision: Annotated[Literal["allow", "deny"] | None, typer.Option("--decision", help="Only such.")] = None,
    idp: Annotated[str | None, typer.Option("--idp", metavar="ENTITY_ID", help="With evidence of this IdP.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="The latest so many.")] = 50,
    before: Annotated[str | None, typer.Option("--before", metavar="ID", help="Older than this decision.")] = None,
    output: OutputOption = Output.TABLE,
) -> int:
    """List decisions, newest first."""
    from evidence_service.cli.decisions import Wanted, list_decisions

    wanted = Wanted(
        since=since, until=until, upn=upn, reason=reason, decision=decision, idp=idp, limit=limit, before=before
    )
    return list_decisions(_session(context), wanted, output)


@decision_app.command("show")
def decision_show(
    context: typer.Context,
    decision_id: DecisionId,
    *,
    output: OutputOption = Output.TABLE,
) -> int:
    """Show one decision as it was recorded."""
    from evidence_service.cli.decisions import show_decision

    return show_decision(_session(context), decision_id, output)


@app.command()
def serve(
    context: typer.Context,
    *,
    config: ConfigOption = None,
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on.")] = None,
    port: Port = None,
    tls_certificate: Annotated[
        Path | None, typer.Option("--tls-certificate", metavar="PEM", help="Server certificate, with its chain.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", metavar="PEM", help="Its private key.")] = None,
) -> int:
    """Answer the plug-ins, until SIGTERM."""
    from evidence_service.cli.operations import serve as run

    return run(
        _session(context).with_config(config), host=host, port=port, tls_certificate=tls_certificate, tls_key=tls_key
    )


@app.command()
def admin(
    context: typer.Context,
    *,
    config: ConfigOption = None,
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on.")] = None,
    port: Port = None,
) -> int:
    """Serve the admin API, until SIGTERM.

    Its bearer token is in a file that is made at the first start; the log says where.
    """
    from evidence_service.cli.operations import admin as run

    return run(_session(context).with_config(config), host=host, port=port)


@app.command()
def work(
    context: typer.Context,
    *,
    config: ConfigOption = None,
    once: Annotated[
        bool,
        typer.Option("--once", help="Do what is due and end; exits 3 if a metadata source or a FAS server failed."),
    ] = False,
) -> int:
    """Keep trust and FAS's certificates current, until SIGTERM.

    Fetches metadata, moves signing certificates through their states, renews authorization certificates, raises alarms
    and sends messages.
    """
    from evidence_service.cli.operations import work as run

    return run(_session(context).with_config(config), once=once)


@app.command("run")
def run_all(
    context: typer.Context,
    *,
    config: ConfigOption = None,
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on.")] = None,
    port: Port = None,
    tls_certificate: Annotated[
        Path | None, typer.Option("--tls-certificate", metavar="PEM", help="Server certificate, with its chain.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", metavar="PEM", help="Its private key.")] = None,
    admin_port: Annotated[
        int | None, typer.Option("--admin-port", min=0, max=65535, help="Port of the admin API.")
    ] = None,
) -> int:
    """Run `serve`, `work` and `admin` on one machine, until SIGTERM.

    Each is a process of its own, and is started again when it dies.
    """
    from evidence_service.cli.operations import run_all as run

    return run(
        _session(context).with_config(config),
        host=host,
        port=port,
        tls_certificate=tls_certificate,
        tls_key=tls_key,
        admin_port=admin_port,
    )


@demo_app.callback()
def demo(
    context: typer.Context,
    *,
    once: Annotated[bool, typer.Option("--once", help="Tell the story once and end.")] = False,
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65535, help="Port of the service; a free one without it.")
    ] = None,
    directory: Annotated[
        Path | None, typer.Option("--directory", metavar="DIR", help="Keep the files here: a new or empty directory.")
    ] = None,
) -> int:
    """Run the service with demo IdPs, and simulated FAS servers.

    Real signed launches are sent to it, and the servers' certificates are renewed.
    """
    if context.invoked_subcommand is not None:
        return 0
    from evidence_service.cli.operations import demo as run

    return run(once=once, port=port, directory=directory)


RequestNumber = Annotated[int, typer.Argument(metavar="NUMBER", help="The number of a pending request.")]


@demo_ca_app.command("list")
def demo_ca_list(context: typer.Context, *, output: OutputOption = Output.TABLE) -> int:
    """List the requests that are pending."""
    from evidence_service.cli.demo_ca import list_pending

    return list_pending(_session(context), output)


@demo_ca_app.command("issue")
def demo_ca_issue(context: typer.Context, number: RequestNumber) -> int:
    """Issue a pending request."""
    from evidence_service.cli.demo_ca import decide

    return decide(_session(context), number)


@demo_ca_app.command("deny")
def demo_ca_deny(
    context: typer.Context,
    number: RequestNumber,
    *,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why: FAS shows it, and the mails quote it.")
    ] = "Denied by the CA manager",
) -> int:
    """Deny a pending request."""
    from evidence_service.cli.demo_ca import decide

    return decide(_session(context), number, denied=reason)


@db_app.command("upgrade")
def db_upgrade(context: typer.Context) -> int:
    """Create the database, or bring it to this software's schema."""
    from evidence_service.cli.operations import upgrade_database

    return upgrade_database(_session(context))


@config_app.command("validate")
def config_validate(context: typer.Context, *, config: ConfigOption = None, output: OutputOption = Output.TABLE) -> int:
    """Check settings, database, policies, keys and TLS files.

    The file of renewals, renewal.toml, is one of them.

    Exits 0 where the service would start and could allow someone, 1 where something must be corrected, 3 without a
    usable database.
    """
    from evidence_service.cli.operations import validate

    return validate(_session(context).with_config(config), output)
