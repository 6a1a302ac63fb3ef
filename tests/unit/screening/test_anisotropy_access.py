"""Who may ask the server: tokens, their files, names of the host."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmace.errors import UserError
from mmace_flows.screening.access import TOKEN_VARIABLE, Access, is_loopback, read_token

TOKEN = "a-token-of-good-length-0123"


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.8.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
     ("192.168.0.4", False), ("example.org", False), ("127.0.0.1.example.org", False)],
)  # fmt: skip
def test_a_token_is_needed_where_others_can_reach(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
    assert Access.for_host(host, TOKEN).token == TOKEN
    if loopback:
        assert Access.for_host(host, None).token is None
    else:
        with pytest.raises(UserError, match="other machines could read"):
            Access.for_host(host, None)


def test_only_the_right_token_or_its_session_is_known() -> None:
    access = Access(TOKEN)
    assert access.knows(f"Bearer {TOKEN}", "") and access.knows(f"bearer  {TOKEN} ", "")
    assert access.knows("", access.session()) and TOKEN not in access.session()
    for wrong in ("", "Bearer", "Bearer ", f"Basic {TOKEN}", f"Bearer {TOKEN}x", TOKEN, "Bearer \udcff", "Bearer é"):
        assert not access.knows(wrong, "") and not access.knows("", wrong)
    assert not access.knows("", Access(TOKEN + "x").session())


def test_other_names_of_the_host_are_refused_without_a_token() -> None:
    """A page of another site whose name resolves to 127.0.0.1 asks under its own name."""
    access = Access()
    for right in ("localhost:8321", "127.0.0.1:8321", "127.0.0.1", "[::1]:8321", "LOCALHOST"):
        assert access.allows_host(right)
    for wrong in ("", "evil.example", "127.0.0.1.evil.example:80", "localhost.evil.example", "[::2]:8321"):
        assert not access.allows_host(wrong)
    assert Access(TOKEN).allows_host("magnets.example:8321")


def test_a_token_from_file_or_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    assert read_token(None) is None
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    assert read_token(None) == TOKEN
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}-of-the-file\n")
    path.chmod(0o600)
    assert read_token(path) == f"{TOKEN}-of-the-file"
    path.chmod(0o640)
    with pytest.raises(UserError, match=r"others can read it \(mode 640\); chmod 600 it"):
        read_token(path)
    path.chmod(0o600)
    for bad in ("", "short", "two words of good length", "ünïcödé-of-good-length"):
        path.write_text(bad)
        with pytest.raises(UserError, match="a token is one word of at least 16") as caught:
            read_token(path)
        assert not bad or bad not in str(caught.value)
    with pytest.raises(UserError, match="cannot be read"):
        read_token(tmp_path / "missing")
