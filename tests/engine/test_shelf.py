"""Where activations wait between two units."""

import torch

from engine.memory.shelf import HostShelf, Place


def test_what_is_fetched_again_at_once_or_no_more_wanted_never_leaves(monkeypatch):
    shelf = HostShelf(torch.device("cpu"))
    sent: list[Place] = []
    send = shelf._send
    monkeypatch.setattr(shelf, "_send", lambda place: (sent.append(place), send(place)))
    tensors = [torch.full((4,), float(number)) for number in range(5)]
    first, second = (shelf.put(tensor) for tensor in tensors[:2])
    assert shelf.fetch([second], [first])[0] is tensors[1] and sent == []
    shelf.drop(second)
    third = shelf.put(tensors[2])
    assert sent == []
    fourth = shelf.put(tensors[3])
    assert sent == [first]
    # It was announced before it left, and comes all the same; so does what is fetched from where it rests.
    assert torch.equal(shelf.fetch([first])[0], tensors[0])
    assert torch.equal(shelf.fetch([first])[0], tensors[0])
    shelf.put(tensors[4], over=third, soon=False)
    assert sent == [first, third] and torch.equal(shelf.fetch([third])[0], tensors[4])
    shelf.clear()
    assert fourth.held is None
