import socket

from mkllm.runtime.platform.channel import is_connected


def test_a_connection_is_seen_until_it_is_closed():
    address = "\0mkllm-test-of-draining.sock"
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(address)
        server.listen()
        assert not is_connected(address)
        client.connect(address)
        accepted, _ = server.accept()
        assert is_connected(address) and not is_connected(address[:-1])
        client.close()
        accepted.close()
        assert not is_connected(address)


def test_where_it_cannot_be_known_somebody_may_be_there(tmp_path):
    assert is_connected("\0x", tmp_path / "none")
