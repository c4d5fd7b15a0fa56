from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from sitpayd.errors import ConfigurationError
from sitpayd.settings import Settings, load_secret, load_settings, origins

ADMIN_KEY = "k" * 32
ROOT_KEY = "0123456789abcdef" * 4
EXAMPLE = Path(__file__).parents[1] / "config" / "sitpayd.example.toml"
# These have no fixed default: the example shows a value of its own.
COMPUTED = {
    "base_url",
    "state_dir",
    "database_url",
    "secret_file",
    "admin_key",
    "whatsapp_root_key",
    "revision_source",
}

Configure = Callable[[str], Path]


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for key in Settings.model_fields:
        monkeypatch.delenv(f"SITPAYD_{key.upper()}", raising=False)
    for name in ("SITPAYD_CONFIG", "CREDENTIALS_DIRECTORY", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Configure:
    """Write a configuration file and name it."""

    def write(text: str) -> Path:
        path = tmp_path / "sitpayd.toml"
        path.write_text(text, encoding="utf-8")
        monkeypatch.setenv("SITPAYD_CONFIG", str(path))
        return path

    return write


def refusal() -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_defaults_are_production(tmp_path: Path) -> None:
    settings = load_settings()

    assert settings.whatsapp_url == "wss://web.whatsapp.com/ws/chat"
    assert settings.whatsapp_root_key is None
    assert settings.is_paced
    assert (settings.host, settings.port) == ("127.0.0.1", 8080)
    assert settings.base_url == "http://127.0.0.1:8080"
    assert settings.state_dir == tmp_path / "home/.local/state/sitpayd"
    assert settings.database_url == f"sqlite:///{settings.state_dir}/sitpayd.db"


def test_state_directory_follows_xdg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/somewhere")

    assert load_settings().state_dir == Path("/somewhere/sitpayd")


def test_file_in_the_usual_place_is_read(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config/sitpayd.toml").write_text("send_wait_s = 7\n")

    assert load_settings().send_wait_s == 7


def test_environment_wins_over_the_file(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure('listen = "127.0.0.1:1111"\nsend_wait_s = 7\n')
    monkeypatch.setenv("SITPAYD_LISTEN", "[::1]:2222")

    settings = load_settings()

    assert (settings.host, settings.port, settings.send_wait_s) == ("::1", 2222, 7)
    assert settings.base_url == "http://[::1]:2222"


def test_variable_set_to_nothing_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SITPAYD_ADMIN_KEY", "")

    assert load_settings().admin_key is None


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().listen = "0.0.0.0:1"  # type: ignore[misc]  # what is tested


def test_test_switches_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SITPAYD_REQUIRE_NODE", "1")

    load_settings()


def test_unknown_variable_is_named_with_the_nearest_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SITPAYD_LISTN", "127.0.0.1:1")

    assert refusal() == "unknown environment variable SITPAYD_LISTN; did you mean SITPAYD_LISTEN?"


def test_unknown_key_of_the_file_is_named_with_the_file(configure: Configure) -> None:
    path = configure("verbose = true\n")

    assert refusal() == f"unknown key verbose in {path}"


def test_missing_named_file_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SITPAYD_CONFIG", "/nowhere/sitpayd.toml")

    assert refusal() == "SITPAYD_CONFIG names /nowhere/sitpayd.toml, which is not there"


def test_unreadable_file_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SITPAYD_CONFIG", str(tmp_path))

    assert refusal() == f"cannot read {tmp_path}: Is a directory"


@pytest.mark.parametrize("text", ["listen = ", "= 1", "a = 1\na = 2\n"])
def test_broken_file_is_one_line(configure: Configure, text: str) -> None:
    path = configure(text)

    assert refusal().startswith(f"{path} is not TOML: ")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("listen", "8080"),
        ("listen", "localhost:0"),
        ("listen", "localhost:65536"),
        ("listen", ":8080"),
        ("base_url", "robotics.sitpay.in"),
        ("base_url", "ftp://robotics.sitpay.in"),
        ("base_url", "https://user:secret@robotics.sitpay.in"),
        ("base_url", "https://robotics.sitpay.in/?x=1"),
        ("base_url", "https://[::1"),
        ("database_url", "postgresql://db/sitpayd"),
        ("admin_key", "k" * 31),
        ("whatsapp_url", "https://web.whatsapp.com"),
        ("whatsapp_url", "ws://web.whatsapp.com/ws/chat"),
        ("whatsapp_url", "ws://WEB.WhatsApp.NET./ws"),
        ("whatsapp_root_key", "abc"),
        ("whatsapp_root_key", ROOT_KEY[:-1] + "g"),
        ("pacing", "sometimes"),
        ("first_contacts_per_day", "-1"),
        ("number_checks_per_hour", "-1"),
        ("send_wait_s", "0"),
        ("send_wait_s", "76"),
        ("send_wait_s", "soon"),
        ("message_ttl_s", "1"),
        ("registrations_per_address", "0"),
        ("registrations_per_hour", "0"),
        ("log_level", "loud"),
        ("log_format", "xml"),
    ],
)
def test_bad_value_names_its_variable_and_not_itself(
    monkeypatch: pytest.MonkeyPatch, key: str, value: str
) -> None:
    monkeypatch.setenv(f"SITPAYD_{key.upper()}", value)

    text = refusal()

    assert text.startswith(f"{key} (SITPAYD_{key.upper()}): ")
    assert len(value) < 8 or value not in text


def test_bad_value_names_its_file(configure: Configure) -> None:
    path = configure("listen = 8080\nsend_wait_s = 0\n")

    text = refusal()

    assert f"listen ({path}): " in text
    assert f"send_wait_s ({path}): " in text


@pytest.mark.parametrize(
    "url", ["wss://web.whatsapp.com/ws/chat", "wss://g.whatsapp.net/ws", "wss://whatsapp.net"]
)
def test_root_key_is_refused_with_whatsapp(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """T-53."""
    monkeypatch.setenv("SITPAYD_WHATSAPP_URL", url)
    monkeypatch.setenv("SITPAYD_WHATSAPP_ROOT_KEY", ROOT_KEY)

    assert refusal() == "whatsapp_root_key must not be set together with WhatsApp's own host"


@pytest.mark.parametrize("url", ["ws://127.0.0.1:9/ws", "wss://notwhatsapp.com/ws"])
def test_another_server_has_its_own_root_key_and_no_pacing(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("SITPAYD_WHATSAPP_URL", url)
    monkeypatch.setenv("SITPAYD_WHATSAPP_ROOT_KEY", ROOT_KEY)

    settings = load_settings()

    assert settings.whatsapp_root_key == bytes.fromhex(ROOT_KEY)
    assert not settings.is_paced


@pytest.mark.parametrize(("pacing", "is_paced"), [("on", True), ("off", False)])
def test_pacing_can_be_forced(monkeypatch: pytest.MonkeyPatch, pacing: str, is_paced: bool) -> None:
    monkeypatch.setenv("SITPAYD_PACING", pacing)

    assert load_settings().is_paced is is_paced


def test_admin_key_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SITPAYD_ADMIN_KEY", ADMIN_KEY)

    assert ADMIN_KEY not in repr(load_settings())


def example() -> dict[str, object]:
    """Read the example with every key switched on."""
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    keys = tuple(f"# {key} = " for key in Settings.model_fields)
    return tomllib.loads("\n".join(line[2:] for line in lines if line.startswith(keys)))


def test_example_names_every_key_and_no_other() -> None:
    assert set(example()) == set(Settings.model_fields)


def test_example_shows_the_defaults() -> None:
    shown = {key: value for key, value in example().items() if key not in COMPUTED}

    assert shown == {key: Settings.model_fields[key].default for key in shown}


@pytest.mark.parametrize("key", sorted(COMPUTED - {"whatsapp_root_key"}))
def test_example_values_are_accepted(configure: Configure, key: str) -> None:
    configure(f'{key} = "{example()[key]}"\n')

    load_settings()


def test_example_is_all_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SITPAYD_CONFIG", str(EXAMPLE))

    assert load_settings() == Settings()


def test_secret_is_made_once_and_kept(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path / "a" / "b")

    first = load_secret(settings)

    assert load_secret(settings) == first
    assert len(first) == 32
    assert (settings.state_dir / "secret.key").stat().st_mode & 0o777 == 0o600
    assert settings.state_dir.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in settings.state_dir.iterdir()] == ["secret.key"]


def test_secret_that_others_may_read_is_refused(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path)
    load_secret(settings)
    (tmp_path / "secret.key").chmod(0o640)

    with pytest.raises(ConfigurationError, match="chmod 600"):
        load_secret(settings)


@pytest.mark.parametrize("content", [b"s" * 32, b"73" * 32, b"73" * 32 + b"\n"])
def test_secret_file_holds_bytes_or_hex(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "secret"
    path.write_bytes(content)

    assert load_secret(Settings(secret_file=path)) == b"s" * 32


def test_origin_of_each_value_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sitpayd.toml"
    path.write_text("listen = '127.0.0.1:1'\nlog_level = 'error'\n")
    monkeypatch.setenv("SITPAYD_CONFIG", str(path))
    monkeypatch.setenv("SITPAYD_LISTEN", "127.0.0.1:2")
    # A variable set to nothing is not set.
    monkeypatch.setenv("SITPAYD_LOG_LEVEL", "")

    found = origins()

    assert set(found) == set(Settings.model_fields)
    assert found["listen"] == "SITPAYD_LISTEN"
    assert found["log_level"] == str(path)
    assert found["pacing"] == "default"


@pytest.mark.parametrize("content", [b"", b"s" * 31, b"7g" * 32])
def test_secret_of_another_size_is_refused_unshown(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "secret"
    path.write_bytes(content)

    with pytest.raises(ConfigurationError, match="must be 32 bytes or 64 hex digits") as caught:
        load_secret(Settings(secret_file=path))
    assert "ssss" not in str(caught.value)


def test_missing_secret_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        load_secret(Settings(secret_file=tmp_path / "nothing"))


def test_state_directory_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigurationError, match="cannot make"):
        load_secret(Settings(state_dir=tmp_path / "file" / "state"))


def test_credential_goes_before_every_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitpayd.secret").write_bytes(b"c" * 32)
    (tmp_path / "file").write_bytes(b"f" * 32)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))

    assert load_secret(Settings(secret_file=tmp_path / "file")) == b"c" * 32
