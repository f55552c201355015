import numpy as np
import pytest
import torch

from kryptonite.core.crops import Crops, CropTemplate, InputSpec, to_unit_tensor
from kryptonite.core.errors import InputContractError

SPEC = InputSpec(CropTemplate(8, 0.1), colour="BGR", mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 4.0))


def test_crops_of_another_template_size_dtype_or_colour_are_refused():
    good = np.zeros((2, 8, 8, 3), np.uint8)
    SPEC.check(Crops(good, CropTemplate(8, 0.1)))
    for bad in (
        Crops(good, CropTemplate(8, 0.2)),
        Crops(good, CropTemplate(8, 0.1), colour="BGR"),
        Crops(good.astype(np.float32), CropTemplate(8, 0.1)),
        Crops(good[:, :4], CropTemplate(8, 0.1)),
        Crops(good[0], CropTemplate(8, 0.1)),
    ):
        with pytest.raises(InputContractError):
            SPEC.check(bad)


def test_normalise_turns_the_channels_then_applies_statistics_in_the_networks_order():
    image = torch.tensor([0.5, 0.6, 0.7]).view(1, 3, 1, 1)
    assert torch.allclose(SPEC.normalise(image).flatten(), torch.tensor([0.6, 0.2, 0.05]))


def test_description_round_trips():
    assert InputSpec.from_dict(SPEC.to_dict()) == SPEC


def test_unit_tensor_keeps_rgb_and_range():
    pixels = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3) * 20
    tensor = to_unit_tensor(pixels)
    assert tensor.shape == (1, 3, 2, 2)
    assert torch.allclose(tensor[0, :, 0, 1], torch.tensor([60.0, 80.0, 100.0]) / 255)
