"""Settings: what an operator may choose, read once at start and frozen.

A TOML file (named by SITPAYD_CONFIG, otherwise config/sitpayd.toml if it is there) lies below the
environment, SITPAYD_<KEY>. Whatever is wrong becomes one ConfigurationError that names the key and
where it came from, never its value: some of them are secrets. Numbers that nobody needs to choose
are constants where they are used.
"""

from __future__ import annotations

import difflib
import os
import re
import secrets
import stat
import tomllib
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import SplitResult, urlsplit

import pydantic
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from sitpayd.errors import ConfigurationError
from sitpayd.log import get_logger

ENVIRONMENT_PREFIX: Final = "SITPAYD_"
CONFIG_VARIABLE: Final = "SITPAYD_CONFIG"
DEFAULT_CONFIG: Final = Path("config/sitpayd.toml")
# The test suite's own switches share the prefix.
TEST_SWITCH_PREFIX: Final = "SITPAYD_REQUIRE_"
# Name of the systemd credential that holds the secret.
SECRET_CREDENTIAL: Final = "sitpayd.secret"
SECRET_FILE: Final = "secret.key"
SECRET_LEN: Final = 32
MIN_ADMIN_KEY_LEN: Final = 32
ROOT_KEY_LEN: Final = 32
# Where a value comes from that nobody has set.
DEFAULT: Final = "default"
# The host from which WhatsApp's clients fetch media. Source: Baileys lib/Utils/messages-media.js.
MEDIA_URL: Final = "https://mmg.whatsapp.net"

log = get_logger()


def _split(url: str, schemes: tuple[str, ...]) -> SplitResult:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("must be a URL") from None
    if parts.scheme not in schemes or not parts.hostname or port == 0:
        raise ValueError(
            f"must be a URL that starts with {' or '.join(f'{s}://' for s in schemes)}"
        )
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("must be a URL without user name, query and fragment")
    return parts


def _listen(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not (host and re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) < 2**16):
        raise ValueError("must be host:port, for example 127.0.0.1:8080 or [::1]:8080")
    return value


def _base_url(value: str) -> str:
    _split(value, ("http", "https"))
    return value.rstrip("/")


def _whatsapp_url(value: str) -> str:
    if _split(value, ("ws", "wss")).scheme == "ws" and _is_whatsapp(value):
        raise ValueError("must start with wss:// for WhatsApp's own host")
    return value


def _revision_source(value: str | None) -> str | None:
    if value is not None:
        _split(value, ("http", "https"))
    return value


def _root_key(value: object) -> bytes | None:
    if value is None:
        return None
    if not (isinstance(value, str) and re.fullmatch(f"[0-9a-fA-F]{{{2 * ROOT_KEY_LEN}}}", value)):
        raise ValueError(f"must be {2 * ROOT_KEY_LEN} hex digits")
    return bytes.fromhex(value)


def _database_url(value: str) -> str:
    if not value.startswith("sqlite://"):
        raise ValueError("must start with sqlite://, the only database there is")
    return value


def _admin_key(value: SecretStr | None) -> SecretStr | None:
    if value is not None and len(value.get_secret_value()) < MIN_ADMIN_KEY_LEN:
        raise ValueError(f"must have at least {MIN_ADMIN_KEY_LEN} characters")
    return value


def _default_state_dir() -> Path:
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "sitpayd"


def _is_whatsapp(url: str) -> bool:
    host = (urlsplit(url).hostname or "").rstrip(".")
    return any(host == own or host.endswith(f".{own}") for own in ("whatsapp.net", "whatsapp.com"))


class Settings(BaseSettings):
    """Everything an operator may choose.

    Attributes:
        listen: host:port of the HTTP API.
        base_url: the API's public address; send_url, qr_url and status_url begin with it. By
            default http:// and `listen`.
        state_dir: holds the database and, where nothing else is given, the secret.
        database_url: by default sitpayd.db in `state_dir`.
        secret_file: file with the secret; see `load_secret`.
        admin_key: opens the admin routes; None closes them.
        whatsapp_url: the WebSocket to dial.
        whatsapp_root_key: 32 bytes, verifies the server's certificate chain; None is WhatsApp's
            own, pinned one.
        revision_source: URL of a page that holds the web client's current revision; asked only when
            WhatsApp refuses ours. None: not asked.
        allow_private_proxies: whether a device's proxy may have an address that is not public.
        noise_resume: whether a device that reconnects resumes the Noise handshake with the server
            it met before.
        pacing: whether sends are slowed down to a person's pace; "auto" is on for WhatsApp's own
            host only, since a simulated server has no account to protect.
        first_contacts_per_day: items, for each device: how many numbers it may write to first.
        send_wait_s: seconds a send waits for WhatsApp's acknowledgement, unless the request says.
        message_ttl_s: seconds after which a message that was not sent expires.
        registrations_per_address: new partners an hour from one IPv4 address or IPv6 /64.
        registrations_per_hour: new partners an hour from everywhere.
        log_level: the least important lines written.
        log_format: "text" is key=value.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=ENVIRONMENT_PREFIX,
        # A variable set to nothing, as in a commented-out line of an environment file, is not set.
        env_ignore_empty=True,
        hide_input_in_errors=True,
    )

    listen: Annotated[str, AfterValidator(_listen)] = "127.0.0.1:8080"
    base_url: Annotated[str, AfterValidator(_base_url)] = Field(
        default_factory=lambda data: f"http://{data['listen']}"
    )
    state_dir: Path = Field(default_factory=_default_state_dir)
    database_url: Annotated[str, AfterValidator(_database_url)] = Field(
        default_factory=lambda data: f"sqlite:///{data['state_dir']}/sitpayd.db"
    )
    secret_file: Path | None = None
    admin_key: Annotated[SecretStr | None, AfterValidator(_admin_key)] = None
    whatsapp_url: Annotated[str, AfterValidator(_whatsapp_url)] = "wss://web.whatsapp.com/ws/chat"
    whatsapp_root_key: Annotated[bytes | None, BeforeValidator(_root_key)] = None
    allow_private_proxies: bool = False
    revision_source: Annotated[str | None, AfterValidator(_revision_source)] = None
    noise_resume: bool = False
    pacing: Literal["auto", "on", "off"] = "auto"
    first_contacts_per_day: Annotated[int, Field(ge=0)] = 10
    send_wait_s: Annotated[float, Field(ge=1, le=75)] = 25
    message_ttl_s: Annotated[float, Field(ge=60)] = 24 * 3600
    registrations_per_address: Annotated[int, Field(ge=1)] = 100
    registrations_per_hour: Annotated[int, Field(ge=1)] = 1000
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the environment above the file, whose values come as arguments."""
        return env_settings, init_settings

    @pydantic.model_validator(mode="after")
    def _trusts_whatsapp_alone(self) -> Settings:
        if self.whatsapp_root_key is not None and self.is_whatsapp:
            raise ValueError("whatsapp_root_key must not be set together with WhatsApp's own host")
        return self

    @property
    def host(self) -> str:
        """The host to listen on, without brackets."""
        return self.listen.rpartition(":")[0].removeprefix("[").removesuffix("]")

    @property
    def port(self) -> int:
        """The port to listen on."""
        return int(self.listen.rpartition(":")[2])

    @property
    def is_whatsapp(self) -> bool:
        """Whether `whatsapp_url` is WhatsApp's own host."""
        return _is_whatsapp(self.whatsapp_url)

    @property
    def whatsapp_host(self) -> str:
        """The host of `whatsapp_url`, without brackets."""
        return urlsplit(self.whatsapp_url).hostname or ""

    @property
    def media_url(self) -> str:
        """Where media lie: at WhatsApp's own host, or at the one that stands in its place."""
        if self.is_whatsapp:
            return MEDIA_URL
        parts = urlsplit(self.whatsapp_url)
        return f"{'https' if parts.scheme == 'wss' else 'http'}://{parts.netloc}"

    @property
    def is_paced(self) -> bool:
        """Whether sends are slowed down."""
        return self.pacing == "on" or (self.pacing == "auto" and self.is_whatsapp)


def load_settings() -> Settings:
    """Read the configuration file and the environment.

    Raises:
        ConfigurationError: If the file cannot be read, or a key is unknown or has a bad value.
    """
    path = config_file()
    _refuse_unknown_variables()
    data = _read_config(path)
    try:
        return Settings(**data)
    except pydantic.ValidationError as error:
        problems = [
            _explain(detail["loc"], detail["type"], detail["msg"], path)
            for detail in error.errors(include_input=False, include_url=False)
            # A default that is made of another, bad value: that one is told.
            if detail["type"] != "default_factory_not_called"
        ]
        raise ConfigurationError("; ".join(problems)) from None


def config_file() -> Path:
    """The configuration file: the one that was named, otherwise the usual one."""
    named = os.environ.get(CONFIG_VARIABLE)
    return Path(named) if named else DEFAULT_CONFIG


def origins() -> dict[str, str]:
    """Where the value of each setting comes from: a variable, the file, or DEFAULT.

    Raises:
        ConfigurationError: If the file cannot be read.
    """
    path = config_file()
    data = _read_config(path)
    found = {}
    for key in Settings.model_fields:
        variable = f"{ENVIRONMENT_PREFIX}{key.upper()}"
        found[key] = variable if os.environ.get(variable) else str(path) if key in data else DEFAULT
    return found


def load_secret(settings: Settings) -> bytes:
    """Find the one secret from which the database's keys are derived: 32 bytes.

    Looked for in the systemd credential `sitpayd.secret`, then in `secret_file`, then in secret.key
    in the state directory, which is made on first start.

    Raises:
        ConfigurationError: If the file cannot be read, does not hold 32 bytes (as they are or as 64
            hex digits), or is a secret.key that others may read.
    """
    named = named_secret(settings)
    if named is not None:
        return read_secret(named)
    path = settings.state_dir / SECRET_FILE
    try:
        if not path.exists():
            _make_secret(path)
            log.warning(
                "secret.created",
                path=str(path),
                advice="it lies beside the database it protects; a systemd credential or"
                " SITPAYD_SECRET_FILE keeps the two apart",
            )
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise ConfigurationError(f"{path} may be read by others; run chmod 600 on it")
    except OSError as error:
        raise ConfigurationError(f"cannot make {path}: {error.strerror}") from None
    return read_secret(path)


def named_secret(settings: Settings) -> Path | None:
    """The file in which somebody put the secret; None: it is the one in the state directory."""
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    if credentials and (credential := Path(credentials) / SECRET_CREDENTIAL).exists():
        return credential
    return settings.secret_file


def read_secret(path: Path) -> bytes:
    """Read a secret: 32 bytes.

    Raises:
        ConfigurationError: If the file cannot be read, or does not hold 32 bytes (as they are or as
            64 hex digits).
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read the secret in {path}: {error.strerror}") from None
    if len(data) == SECRET_LEN:
        return data
    text = data.strip()
    if re.fullmatch(rb"[0-9a-fA-F]{%d}" % (2 * SECRET_LEN), text):
        return bytes.fromhex(text.decode("ascii"))
    raise ConfigurationError(
        f"the secret in {path} must be {SECRET_LEN} bytes or {2 * SECRET_LEN} hex digits"
    )


def _read_config(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if os.environ.get(CONFIG_VARIABLE):
            raise ConfigurationError(
                f"{CONFIG_VARIABLE} names {path}, which is not there"
            ) from None
        return {}
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not TOML: {_one_line(str(error))}") from None


def _refuse_unknown_variables() -> None:
    known = {
        CONFIG_VARIABLE,
        *(f"{ENVIRONMENT_PREFIX}{key.upper()}" for key in Settings.model_fields),
    }
    for name in sorted(os.environ):
        upper = name.upper()
        if not upper.startswith(ENVIRONMENT_PREFIX) or upper.startswith(TEST_SWITCH_PREFIX):
            continue
        if upper not in known:
            near = difflib.get_close_matches(upper, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigurationError(f"unknown environment variable {_one_line(name)}{hint}")


def _explain(loc: tuple[int | str, ...], kind: str, message: str, path: Path) -> str:
    text = _one_line(message.removeprefix("Value error, "))
    if not loc:
        return text  # about several keys together; the message names them
    key = _one_line(str(loc[0]))
    if kind == "extra_forbidden":
        return f"unknown key {key} in {path}"
    variable = f"{ENVIRONMENT_PREFIX}{key.upper()}"
    origin = variable if os.environ.get(variable) else str(path)
    return f"{key} ({origin}): {text}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _make_secret(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(file, secrets.token_hex(SECRET_LEN).encode("ascii") + b"\n")
        os.fsync(file)
    finally:
        os.close(file)
    try:
        # A link, not a rename: it cannot replace a secret that another process made meanwhile, and
        # a kill before it leaves no half-written one.
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
