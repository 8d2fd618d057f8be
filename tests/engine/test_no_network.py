"""The suite's own guard: whatever passes here passed without the network."""

import os
import socket
import subprocess
import sys

import pytest

SOMEWHERE = ("192.0.2.1", 443)  # reserved for documentation


@pytest.mark.parametrize("method", ["connect", "connect_ex"])
def test_other_machines_are_out_of_reach(method):
    with socket.socket() as outward, pytest.raises(pytest.fail.Exception, match=r"may not reach 192\.0\.2\.1"):
        getattr(outward, method)(SOMEWHERE)


def test_nor_by_datagram_nor_by_name():
    with (
        socket.socket(type=socket.SOCK_DGRAM) as outward,
        pytest.raises(pytest.fail.Exception, match=r"may not reach 192\.0\.2\.1"),
    ):
        outward.sendto(b"hello", SOMEWHERE)
    with pytest.raises(pytest.fail.Exception, match=r"may not reach huggingface\.co"):
        socket.create_connection(("huggingface.co", 443))


def test_this_machine_is_within_reach():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()[:2]) as client:
        accepted, _ = server.accept()
        client.sendall(b"hello")
        with accepted:
            assert accepted.recv(5) == b"hello"


def test_the_hubs_client_is_offline_here_and_in_every_process_started_here():
    from huggingface_hub import is_offline_mode

    assert is_offline_mode() and os.environ["HF_HUB_OFFLINE"] == "1"
    code = "import sys; from huggingface_hub import is_offline_mode; sys.exit(3 if is_offline_mode() else 0)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 3
