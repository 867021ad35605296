"""Which ids say a click or a pop: a decoder whose answer is known, and the bundled codec."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from rrpo.errors import UserError
from rrpo.mini.codec import CodecConfig, MiniCodec
from rrpo.mini.world import World
from rrpo_world.transients import carriers, reach, transient_shares


class Known(MiniCodec):
    """Says a click where the last digit is 2, a pop where also the token before has a first 0."""

    def predict(self, quantised: Tensor, mask: Tensor | None = None) -> SimpleNamespace:  # type: ignore[override]  # noqa: ARG002
        click = quantised[..., 7] > 0
        before = torch.roll(quantised[..., 0], 1, dims=1) < 0
        return SimpleNamespace(presence=torch.stack([click, click & before], -1).float() - 0.5)


def test_shares_are_those_of_a_known_decoder() -> None:
    codec = Known(CodecConfig(width=8, encoder_dilations=(1,), decoder_dilations=(1,)))
    assert reach(codec) == 1
    # Id 0 has the digits 0 0 …, id 1 the digits 1 0 …: only the first lets a pop out.
    shares = transient_shares(codec, [torch.tensor([0, 5, 5]), torch.tensor([1, 5, 5])])
    last = torch.arange(6561) >= 2 * 3**7
    torch.testing.assert_close(shares[:, 0], last.float())
    torch.testing.assert_close(shares[:, 1], last.float() / 2)
    found = carriers(shares)
    assert found["click"] == found["pop"] == list(range(2 * 3**7, 6561))
    assert carriers(shares, least=0.6)["pop"] == []


def test_a_stretch_of_another_length_is_refused() -> None:
    codec = World().codec()
    with pytest.raises(UserError, match=f"stretches of {2 * reach(codec) + 1}"):
        transient_shares(codec, [torch.zeros(5, dtype=torch.int64)])
    with pytest.raises(UserError, match="stretches"):
        transient_shares(codec, [])


@pytest.mark.slow
def test_putting_a_carrier_into_speech_is_heard_by_the_decoder() -> None:
    """The bundled codec keeps a place among its ids for each kind of event."""
    world = World()
    codec = world.codec()
    size = 2 * reach(codec) + 1
    row = next(row for row in world.shard("test_same") if row.tokens.size > size)
    stretch = torch.from_numpy(row.tokens[:size])
    tried = range(0, 6561, 10)
    ids = carriers(transient_shares(codec, [stretch], tried))
    elsewhere = torch.from_numpy(row.tokens[-size:])
    for kind in ("click", "pop"):
        assert 0 < len(ids[kind]) < len(tried) / 2
        heard = 0
        for carrier in ids[kind][:50]:
            spoken = elsewhere.clone()
            spoken[size // 2] = carrier
            heard += float(getattr(codec.parameters_of([spoken])[0], kind)[0, size // 2]) > 0
        assert heard > len(ids[kind][:50]) / 3
