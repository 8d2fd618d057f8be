"""Where activations wait between two units."""

import torch

from engine.memory.shelf import HostShelf, Place


def test_the_first_ones_stay_as_far_as_there_is_room_and_room_comes_back(monkeypatch):
    tensors = [torch.full((64,), float(number)) for number in range(140)]
    size = tensors[0].nbytes
    shelf = HostShelf(torch.device("cpu"), staying=100 * size)
    sent: list[Place] = []
    send = shelf._send
    monkeypatch.setattr(shelf, "_send", lambda place: (sent.append(place), send(place)))
    places = [shelf.put(tensor, soon=False) for tensor in tensors]
    assert sent == places[100:]
    assert all(shelf.fetch([place])[0] is tensor for place, tensor in zip(places[:100], tensors, strict=False))
    assert all(torch.equal(shelf.fetch([place])[0], tensor) for place, tensor in zip(places, tensors, strict=True))
    over = shelf.put(torch.full((64,), 7.0), over=places[0], soon=False)
    shelf.drop(places[1])
    new = shelf.put(torch.full((64,), 8.0), soon=False)
    assert len(sent) == 40 and [float(each[0]) for each in shelf.fetch([over, new])] == [7.0, 8.0]
    shelf.clear()
    for _ in range(100):
        shelf.put(tensors[0], soon=False)
    assert len(sent) == 40 and shelf._room == 0
    assert shelf.send_all() and not shelf.send_all()
    shelf.clear()
    shelf.put(tensors[0], soon=False)
    assert len(sent) == 41


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
