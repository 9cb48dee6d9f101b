"""Signatures of programs and catalogues, made by signers of these tests."""

import dataclasses
import hashlib

import pytest

from mkllm.builder.errors import WrongHash
from mkllm.builder.kit.authenticode import Publisher, catalogued, check_program

from .windows_samples import HEADER, Signer, program, signer

FILES = [b"import os\n", b"import sys\n"]


@pytest.fixture(scope="module")
def maker() -> Signer:
    return signer("A Foundation")


@pytest.fixture(scope="module")
def other() -> Signer:
    return signer("A Foundation")


def refused(data: bytes, *publishers: Publisher) -> str:
    with pytest.raises(WrongHash) as caught:
        check_program("select.pyd", data, publishers)
    assert caught.value.exit_code == 16 and "'select.pyd'" in str(caught.value)
    return str(caught.value)


def test_a_signed_program(maker: Signer) -> None:
    check_program("select.pyd", maker.sign_program(program(["kernel32.dll"])), [maker.publisher])


@pytest.mark.parametrize("at", [10, 0x400, 0x5FF])
def test_a_changed_program(maker: Signer, at: int) -> None:
    data = bytearray(maker.sign_program(program(["kernel32.dll"])))
    data[at] ^= 1
    assert "it is not what was signed" in refused(bytes(data), maker.publisher)


def test_the_checksum_is_not_signed(maker: Signer) -> None:
    data = bytearray(maker.sign_program(program([])))
    data[HEADER + 24 + 64] ^= 1
    check_program("select.pyd", bytes(data), [maker.publisher])


def test_another_organization(maker: Signer) -> None:
    wanted = dataclasses.replace(maker.publisher, organization="Another Foundation")
    assert "it is signed by 'A Foundation'" in refused(maker.sign_program(program([])), wanted)


def test_the_same_name_by_another_authority(maker: Signer, other: Signer) -> None:
    assert "the certificate of 'A Foundation' is from" in refused(other.sign_program(program([])), maker.publisher)


def test_an_issuer_that_only_has_the_name(maker: Signer, other: Signer) -> None:
    """The pinned certificate lies beside one that it did not issue."""
    forged = dataclasses.replace(other, issuer=maker.issuer)
    assert "not its signer's" in refused(forged.sign_program(program([])), maker.publisher)


def test_another_key(maker: Signer, other: Signer) -> None:
    forged = dataclasses.replace(maker, key=other.key)
    assert "not its signer's" in refused(forged.sign_program(program([])), maker.publisher)


def test_a_certificate_for_another_use() -> None:
    server = signer("A Foundation", may_sign=False)
    assert "it is signed by" in refused(server.sign_program(program([])), server.publisher)


@pytest.mark.parametrize("cut", [1, 200, 1500])
def test_a_cut_signature(maker: Signer, cut: int) -> None:
    refused(maker.sign_program(program([]))[:-cut], maker.publisher)


def test_not_signed(maker: Signer) -> None:
    assert "it is not signed" in refused(program([]), maker.publisher)


@pytest.mark.parametrize("data", [b"", b"MZ", b"\x7fELF" + bytes(200), b"MZ" + bytes(300)])
def test_no_program(maker: Signer, data: bytes) -> None:
    refused(data, maker.publisher)


def test_a_catalogue(maker: Signer) -> None:
    listed = catalogued("a.cat", maker.catalogue(FILES), [maker.publisher])
    assert listed == {hashlib.sha256(data).digest() for data in FILES}


def test_a_damaged_catalogue(maker: Signer, other: Signer) -> None:
    data = maker.catalogue(FILES)
    place = data.index(hashlib.sha256(FILES[0]).digest())
    for damaged in (data[:place] + b"?" + data[place + 1 :], data[:-100], b"", b"not a catalogue"):
        with pytest.raises(WrongHash, match="'a.cat' does not carry the signature"):
            catalogued("a.cat", damaged, [maker.publisher])
    with pytest.raises(WrongHash, match="is from"):
        catalogued("a.cat", other.catalogue(FILES), [maker.publisher])


def test_a_signed_program_is_no_catalogue(maker: Signer) -> None:
    data = maker.sign_program(program([]))
    with pytest.raises(WrongHash, match="of another kind"):
        catalogued("a.cat", data[len(program([])) + 8 :], [maker.publisher])
