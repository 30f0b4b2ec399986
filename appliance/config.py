"""The only reader of configuration files and of the environment; everything else takes values as arguments.

    config = load_config(home="/var/lib/cloister")   # or APPLIANCE_HOME, or the user's data folder

Order, strongest first: arguments, `APPLIANCE_<SECTION>__<KEY>` in the environment, `config.toml` in the data
folder, the defaults below. Secrets are never read from the environment: the root key is a file.
"""

from __future__ import annotations

import ipaddress
import os
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from appliance.errors import ConfigInvalid

HOME_VARIABLE = "APPLIANCE_HOME"
CONFIG_FILE = "config.toml"
CONFIG_BYTES_MAX = 256 * 1024
CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"

# How a passphrase is asked for: the prompt, and whether it is a new one that must be typed twice.
Ask = Callable[[str, bool], str]


@dataclass(frozen=True, slots=True)
class Home:
    """Where everything of one appliance lies. Two homes share nothing."""

    root: Path

    @property
    def marker(self) -> Path:
        """`home.json`: format version and creation time; its existence means the folder is complete."""
        return self.root / "home.json"

    @property
    def config_file(self) -> Path:
        return self.root / CONFIG_FILE

    @property
    def database(self) -> Path:
        """Accounts, sessions, API keys, registry of specialists."""
        return self.root / "db" / "appliance.db"

    @property
    def audit_database(self) -> Path:
        return self.root / "audit" / "log.db"

    @property
    def signer_state(self) -> Path:
        """The signer's own (size, root): it refuses to sign a smaller or a different tree."""
        return self.root / "audit" / "signer.json"

    @property
    def keystore(self) -> Path:
        """Wrapped keys; its own file with its own backup stream."""
        return self.root / "keys" / "keystore.db"

    @property
    def root_key_file(self) -> Path:
        return self.root / "keys" / "root.key"

    @property
    def passphrase_failures(self) -> Path:
        """How many wrong passphrases were tried; missing while there was none."""
        return self.root / "keys" / "passphrase-failures.json"

    @property
    def models(self) -> Path:
        """Base models, one folder each: `minilm/base.gguf`, `minilm/vocab.txt`, `minilm/manifest.json`."""
        return self.root / "models"

    @property
    def specialists(self) -> Path:
        """Installed specialist files, named by hash: `<sha256>.gguf`."""
        return self.root / "specialists"

    @property
    def tls(self) -> Path:
        """The site's own certificate authority and the server's certificate, where it made them; else missing."""
        return self.root / "tls"

    @property
    def runtime(self) -> Path:
        """Locks and sockets; emptied at start."""
        return self.root / "run"

    def folders(self) -> tuple[Path, ...]:
        """Every folder that `appliance init` creates, mode 0700."""
        parents = (self.database, self.audit_database, self.keystore)
        return (self.root, *(path.parent for path in parents), self.models, self.specialists, self.runtime)


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _network(text: str) -> str:
    return str(ipaddress.ip_network(text))


_PRIVATE_NETWORKS = (
    *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"),
    *("::1/128", "fc00::/7", "fe80::/10"),
)


class ServerConfig(_Section):
    """HTTP. A non-loopback `host` needs TLS here or `behind_proxy`. `client_networks`: who is served at all.

    Without `tls_certificate` the one in `tls/` of the data folder is used, where there is one (`appliance tls`).
    """

    host: str = "127.0.0.1"
    port: int = Field(default=8443, ge=0, le=65535)
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    behind_proxy: bool = False
    public_hosts: tuple[str, ...] = ()  # Host headers accepted besides the bound address
    client_networks: tuple[Annotated[str, AfterValidator(_network)], ...] = _PRIVATE_NETWORKS
    site_name: str = Field(default="This site", max_length=80)
    ui: bool = True
    shutdown_s: float = Field(default=5.0, gt=0, le=60)


class LimitsConfig(_Section):
    """Bounds on what one caller may send or hold."""

    text_chars_max: int = Field(default=200_000, ge=1, le=5_000_000)
    body_bytes_max: int = Field(default=2 * 1024 * 1024, ge=1024)
    jsonl_line_bytes_max: int = Field(default=4 * 1024 * 1024, ge=1024)
    jsonl_lines_at_once: int = Field(default=16, ge=1, le=1024)  # of one file, so that the engine can batch them
    page_size_max: int = Field(default=200, ge=1, le=1000)
    requests_in_flight_max: int = Field(default=64, ge=1)
    evaluation_bytes_max: int = Field(default=64 * 1024 * 1024, ge=1024)  # labelled data of one evaluation
    evaluation_items_max: int = Field(default=20_000, ge=1, le=1_000_000)  # labelled lines of one evaluation
    denials_per_minute: int = Field(default=20, ge=1, le=1000)  # recorded one by one from one address; more are counted


class EngineConfig(_Section):
    """One encoder worker. `threads` 0: the physical cores this process may use, at most 8.

    `microbatch_tokens`: 128 is within 2 % of the best speed, and every token of it costs 160 KiB a thread.
    """

    backend: Literal["llamacpp", "echo"] = "llamacpp"
    threads: int = Field(default=0, ge=0, le=256)
    microbatch_tokens: int = Field(default=128, ge=32, le=512)
    queue_sequences_max: int = Field(default=4096, ge=1)
    message_bytes_max: int = Field(default=64 * 1024 * 1024, ge=1024)
    adapters_max: int = Field(default=64, ge=1)
    start_s: float = Field(default=30.0, gt=0)
    request_s: float = Field(default=120.0, gt=0)
    watchdog_s: float = Field(default=30.0, gt=0)  # a worker silent for this long is killed
    restart_backoff_s: float = Field(default=0.25, gt=0)
    restart_backoff_max_s: float = Field(default=30.0, gt=0)
    memory_bytes_max: int = Field(default=4 * 1024**3, ge=64 * 1024**2)


class ModelsConfig(_Section):
    """Models that write: where `appliance models pull` asks, and how much is let in. The server asks nowhere."""

    hub_url: str = Field(default="https://huggingface.co", max_length=300, pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$")
    connect_s: float = Field(default=10.0, gt=0, le=300)
    file_bytes_max: int = Field(default=512 * 1024**3, ge=1024)
    disk_free_bytes_min: int = Field(default=1024**3, ge=0)  # left to everything else when a model is added


class GenerationConfig(_Section):
    """One worker per decoder model. `threads` 0: the physical cores this process may use.

    `slots` sequences run at once, each with a context of `context_tokens` (less if the model takes less); both cost
    memory for keys and values. `step_tokens` bounds one step: more is faster for prompts and slower between tokens.
    `gpu_layers` none given: as many as fit; 0: the CPU; -1: all. `auto_model`: who answers a chat with `auto` that no
    specialist is for; empty: the only model that is installed.
    """

    backend: Literal["llamacpp", "echo"] = "llamacpp"
    threads: int = Field(default=0, ge=0, le=256)
    gpu_layers: int | None = Field(default=None, ge=-1)
    slots: int = Field(default=16, ge=1, le=64)
    context_tokens: int = Field(default=4096, ge=64, le=1_000_000)
    step_tokens: int = Field(default=256, ge=64, le=4096)
    queue_max: int = Field(default=256, ge=1, le=4096)
    message_bytes_max: int = Field(default=16 * 1024 * 1024, ge=64 * 1024)
    adapters_max: int = Field(default=16, ge=1)
    share_prefixes: bool = True
    speculate: bool = True
    start_s: float = Field(default=120.0, gt=0)
    request_s: float = Field(default=600.0, gt=0)
    watchdog_s: float = Field(default=60.0, gt=0)
    restart_backoff_s: float = Field(default=0.25, gt=0)
    restart_backoff_max_s: float = Field(default=30.0, gt=0)
    memory_bytes_max: int = Field(default=16 * 1024**3, ge=64 * 1024**2)  # of one model
    memory_bytes_total: int = Field(default=24 * 1024**3, ge=64 * 1024**2)  # of all that are loaded
    models_max: int = Field(default=4, ge=1, le=64)
    auto_model: str = Field(default="", max_length=96)
    window_s: float = Field(default=0.25, gt=0, le=10)  # of a streamed answer: one record, then it leaves
    window_tokens: int = Field(default=64, ge=1, le=4096)


class UpstreamModelConfig(_Section):
    """A model of another server inside the site. `url` ends before `/chat/completions`, mostly in `/v1`."""

    url: str = Field(max_length=300, pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$")
    model: str = Field(min_length=1, max_length=200)  # as the other server calls it
    api_key_file: Path | None = None


class UpstreamConfig(_Section):
    """Other servers that write, and the addresses or networks where they may be. No address: none is asked."""

    addresses: tuple[str, ...] = Field(default=(), max_length=64)
    models: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,95}$")], UpstreamModelConfig] = Field(
        default_factory=dict, max_length=32
    )
    ca_certificate: Path | None = None  # None: the system's authorities
    connect_s: float = Field(default=5.0, gt=0, le=60)
    silence_s: float = Field(default=120.0, gt=0)  # without a byte
    request_s: float = Field(default=600.0, gt=0)
    body_bytes_max: int = Field(default=32 * 1024 * 1024, ge=1024)  # of one answer, with everything around its text
    in_flight_max: int = Field(default=32, ge=1, le=1024)  # at one model


class GuardConfig(_Section):
    """Identifiers in conversations. What follows decides what a word is: of an answer that is being written,
    `lookahead_chars` stay back, and `context_chars` before what was shown are read again, every `step_chars`.
    """

    lookahead_chars: int = Field(default=200, ge=64, le=4000)
    context_chars: int = Field(default=600, ge=100, le=20_000)
    step_chars: int = Field(default=120, ge=1, le=4000)
    hold_chars_max: int = Field(default=2000, ge=400, le=100_000)  # an identifier beyond is cut
    carried_max: int = Field(default=500, ge=1, le=10_000)  # values looked for all through a conversation
    remembered_max: int = Field(default=20_000, ge=0, le=10_000_000)  # verdicts and identifiers, in memory only
    remembered_s: float = Field(default=3600.0, gt=0)  # after its last use


class AuditConfig(_Section):
    """The log: one sequencer, group commit, release gate."""

    origin: str = Field(default="cloister.local/audit", max_length=200, pattern=r"^[A-Za-z0-9._/-]+$")
    append_s: float = Field(default=5.0, gt=0)  # the release gate waits this long, then refuses
    start_s: float = Field(default=15.0, gt=0)
    queue_max: int = Field(default=1024, ge=1)
    batch_max: int = Field(default=256, ge=1, le=4096)
    record_bytes_max: int = Field(default=8 * 1024 * 1024, ge=4096)
    heartbeat_s: float = Field(default=60.0, gt=0)
    restart_backoff_s: float = Field(default=0.1, gt=0)
    restart_backoff_max_s: float = Field(default=10.0, gt=0)
    disk_free_bytes_min: int = Field(default=64 * 1024 * 1024, ge=0)
    reserve_bytes: int = Field(default=8 * 1024 * 1024, ge=0)  # given up to record that recording pauses
    index: bool = True  # blind index of actor, event, exchange, specialist, address and subject
    signing_overlap_s: float = Field(default=86400.0, gt=0)  # after a rotation both keys sign for this long
    scanned_max: int = Field(default=5_000_000, ge=1)  # records that one search opens at most


class RetentionConfig(_Section):
    """How long records are kept, in months, as a new log begins. Later it is lengthened through the log only."""

    exchange_months: int = Field(default=72, ge=6, le=1200)
    administration_months: int = Field(default=72, ge=6, le=1200)
    expire_every_s: float = Field(default=86400.0, gt=0)


class ConversationsConfig(_Section):
    """Conversations with models that write, kept for their owner. They expire with the records of their first month."""

    per_person_max: int = Field(default=200, ge=1, le=10_000)
    turns_max: int = Field(default=400, ge=2, le=10_000)  # messages and answers of one conversation
    chars_max: int = Field(default=1_000_000, ge=1000)  # of all of them together
    system_chars_max: int = Field(default=8000, ge=0)
    answer_room_tokens: int = Field(default=512, ge=1)  # oldest turns are left out until so much of the context is free


class WitnessConfig(_Section):
    """Where checkpoints go besides this machine. `url` and `verifier_key` as the witness prints them; empty: none."""

    url: str = Field(default="", max_length=300)
    verifier_key: str = Field(default="", max_length=300)
    every_s: float = Field(default=10.0, gt=0)
    timeout_s: float = Field(default=5.0, gt=0)
    ca_certificate: Path | None = None
    exposure_target_s: float = Field(default=60.0, gt=0)  # an alarm is raised beyond twice this


class SiemConfig(_Section):
    """RFC 5424 syslog over TLS (RFC 5425). Empty host: none. Envelope fields only, never contents."""

    host: str = Field(default="", max_length=253)
    port: int = Field(default=6514, ge=1, le=65535)
    ca_certificate: Path | None = None  # None: the system's authorities
    client_certificate: Path | None = None
    client_key: Path | None = None
    enterprise_id: int = Field(default=32473, ge=1)  # of the structured data; 32473 is reserved for examples
    batch_max: int = Field(default=200, ge=1, le=5000)
    every_s: float = Field(default=2.0, gt=0)
    timeout_s: float = Field(default=10.0, gt=0)


class KeysConfig(_Section):
    """Where the root key comes from at a start. A passphrase is asked for, never written here."""

    source: Literal["file", "credential", "passphrase"] = "file"
    file: Path | None = None  # None: keys/root.key in the data folder
    credential: str = Field(default="cloister-root-key", pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]*$", max_length=100)
    argon2_memory_kib: int = Field(default=256 * 1024, ge=8 * 1024, le=1024 * 1024)  # of passphrases set from now on
    argon2_time_cost: int = Field(default=3, ge=1, le=64)
    argon2_parallelism: int = Field(default=2, ge=1, le=64)
    passphrase_failures_max: int = Field(default=5, ge=1)
    passphrase_lock_s: float = Field(default=60.0, gt=0)


class BackupConfig(_Section):
    """Backups that the server makes by itself, once `folder` is named: a disk or a mounted share, not the data folder.

    A backup expires after `keep_days` and is deleted when there is a newer one. A key that was destroyed is gone for
    good when the last backup that had it has expired.
    """

    folder: Path | None = None
    every_s: float = Field(default=86400.0, gt=0)
    keep_days: int = Field(default=35, ge=1, le=3650)
    drill_every_s: float = Field(default=7 * 86400.0, gt=0)


class EgressConfig(_Section):
    """The daily proof that nothing leaves: a probe that really tries."""

    every_s: float = Field(default=86400.0, gt=0)
    timeout_s: float = Field(default=1.5, gt=0, le=30)  # of one attempt; one that nobody answers has left


class AccountsConfig(_Section):
    """Passwords, browser sessions and API keys."""

    session_idle_s: int = Field(default=15 * 60, ge=60)
    session_absolute_s: int = Field(default=8 * 3600, ge=60)
    password_length_min: int = Field(default=12, ge=8)
    argon2_time_cost: int = Field(default=3, ge=1)
    argon2_memory_kib: int = Field(default=64 * 1024, ge=8 * 1024)
    argon2_parallelism: int = Field(default=2, ge=1)
    password_checks_at_once: int = Field(default=2, ge=1)
    attempts_per_address: int = Field(default=20, ge=1)  # failed sign-ins in the window
    attempts_window_s: int = Field(default=300, ge=1)
    setup_link_s: int = Field(default=24 * 3600, ge=60)
    api_key_days_default: int = Field(default=90, ge=1, le=3650)


class SpecialistsConfig(_Section):
    """Files and texts of specialists.

    `merged`: ids of those who are asked so much that each may have a copy of the base's layers with its adapter in it:
    22 MiB of memory and a sixth of a second at a start, for a third more tokens a second.
    """

    window_tokens: int = Field(default=128, ge=32, le=512)
    window_overlap_tokens: int = Field(default=32, ge=8, le=128)
    file_bytes_max: int = Field(default=64 * 1024 * 1024, ge=1024)
    merged: tuple[Annotated[str, Field(max_length=64)], ...] = Field(default=("phi-deid",), max_length=16)


class TeachingConfig(_Section):
    """Teaching specialists from tables. Tables wait in memory, never on the disk, until a job takes them."""

    table_bytes_max: int = Field(default=32 * 1024 * 1024, ge=1024)
    tables_max: int = Field(default=4, ge=1, le=64)
    table_keep_s: float = Field(default=3600.0, gt=0)
    texts_max: int = Field(default=20_000, ge=100)  # of a larger table, a sample is learned from
    jobs_max: int = Field(default=2, ge=1, le=16)  # that run or wait at a time
    jobs_kept_max: int = Field(default=16, ge=1, le=256)
    job_s: float = Field(default=3600.0, gt=0)
    lora_s: float = Field(default=1800.0, gt=0)  # of a job that trains adapters, at most this for training them
    niceness: int = Field(default=10, ge=0, le=19)  # of the process that teaches: whoever serves comes first


class _Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="APPLIANCE_", env_nested_delimiter="__", frozen=True, extra="forbid", env_ignore_empty=True
    )

    server: ServerConfig = ServerConfig()
    limits: LimitsConfig = LimitsConfig()
    engine: EngineConfig = EngineConfig()
    generation: GenerationConfig = GenerationConfig()
    upstream: UpstreamConfig = UpstreamConfig()
    guard: GuardConfig = GuardConfig()
    audit: AuditConfig = AuditConfig()
    retention: RetentionConfig = RetentionConfig()
    conversations: ConversationsConfig = ConversationsConfig()
    witness: WitnessConfig = WitnessConfig()
    siem: SiemConfig = SiemConfig()
    keys: KeysConfig = KeysConfig()
    backup: BackupConfig = BackupConfig()
    egress: EgressConfig = EgressConfig()
    accounts: AccountsConfig = AccountsConfig()
    specialists: SpecialistsConfig = SpecialistsConfig()
    models: ModelsConfig = ModelsConfig()
    teaching: TeachingConfig = TeachingConfig()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment over the file's values, which arrive as init arguments; no .env, no secrets folder."""
        return (env_settings, init_settings)


@dataclass(frozen=True, slots=True)
class Config:
    """Everything a start needs to know, read once."""

    home: Home
    server: ServerConfig
    limits: LimitsConfig
    engine: EngineConfig
    generation: GenerationConfig
    upstream: UpstreamConfig
    guard: GuardConfig
    audit: AuditConfig
    retention: RetentionConfig
    conversations: ConversationsConfig
    witness: WitnessConfig
    siem: SiemConfig
    keys: KeysConfig
    backup: BackupConfig
    egress: EgressConfig
    accounts: AccountsConfig
    specialists: SpecialistsConfig
    models: ModelsConfig
    teaching: TeachingConfig
    credentials: Path | None = None  # where systemd put this service's credentials
    ask: Ask | None = field(default=None, repr=False, compare=False)  # set by `cli`, where a person or a pipe answers


def default_home() -> Path:
    """`APPLIANCE_HOME`, or the platform's folder for a user's data."""
    named = os.environ.get(HOME_VARIABLE)
    if named:
        return Path(named)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "cloister"
    data_home = os.environ.get("XDG_DATA_HOME")
    return (Path(data_home) if data_home else Path.home() / ".local" / "share") / "cloister"


def load_config(home: str | Path | None = None) -> Config:
    """Read `config.toml` of the data folder (absent: defaults) and the environment.

    Raises `ConfigInvalid` naming the file and the key, never the value.
    """
    place = Home(Path(home or default_home()).expanduser().absolute())
    values = _read_toml(place.config_file)
    try:
        settings = _Settings(**values)  # type: ignore[arg-type]  # pydantic checks it
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigInvalid(
            f"configuration key {key!r} is not valid: {first['msg']}",
            hint=f"correct it in {place.config_file} or in the APPLIANCE_ variable of that name",
        ) from None
    sections = {name: getattr(settings, name) for name in _Settings.model_fields}
    sections["server"] = _with_site_certificate(settings.server, place)
    credentials = os.environ.get(CREDENTIALS_VARIABLE)
    return Config(home=place, credentials=Path(credentials) if credentials else None, **sections)


def _with_site_certificate(server: ServerConfig, home: Home) -> ServerConfig:
    """The same with the certificate of `tls/`, where no other is named and no proxy ends TLS."""
    certificate = home.tls / "server.pem"
    if server.tls_certificate is not None or server.behind_proxy or not certificate.exists():
        return server
    return server.model_copy(update={"tls_certificate": certificate, "tls_key": home.tls / "server.key"})


def gpu_folder() -> Path:
    """Where a GPU pack lies: beside the program's environment, so that it belongs to that release. No setting names it:
    what is loaded from there runs, and the data folder's owner must not choose it."""
    return Path(sys.prefix).parent / "gpu"


def child_environment() -> dict[str, str]:
    """The environment for worker processes: what the loader and the locale need, no proxies, no credentials."""
    kept = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "HOME", "VIRTUAL_ENV", "LLAMA_CPP_LIB_PATH")
    return {name: os.environ[name] for name in kept if name in os.environ}


def set_process_defaults(values: dict[str, str], unset: tuple[str, ...] = ()) -> None:
    """Set environment variables that third-party libraries read (`cli` calls it before it imports `ui`)."""
    os.environ.update(values)
    for name in unset:
        os.environ.pop(name, None)


def _read_toml(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            text = file.read(CONFIG_BYTES_MAX + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigInvalid(f"cannot read {path}: {error.strerror}", hint="check the file's owner and mode") from None
    if len(text) > CONFIG_BYTES_MAX:
        raise ConfigInvalid(
            f"{path} is larger than {CONFIG_BYTES_MAX} bytes", hint="it holds settings only: look what is in it"
        )
    try:
        return tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigInvalid(f"{path} is not valid TOML: {error}", hint="correct that line; texts need quotes") from None
