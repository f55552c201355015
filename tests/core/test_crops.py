import numpy as np
import pytest
import torch

from kryptonite.core.crops import Crops, CropTemplate, InputSpec, to_unit_tensor
from kryptonite.core.errors import InputContractError

SPEC = InputSpec(CropTemplate(8, 0.1), colour="BGR", mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 4.0))


def test_input_spec_check_refuses_crops_when_template_shape_or_dtype_differ():
    good = np.zeros((2, 8, 8, 3), np.uint8)
    SPEC.check(Crops(good, CropTemplate(8, 0.1)))
    for bad in (
        Crops(good, CropTemplate(8, 0.2)),
        Crops(good.astype(np.float32), CropTemplate(8, 0.1)),
        Crops(good[:, :4], CropTemplate(8, 0.1)),
        Crops(good[0], CropTemplate(8, 0.1)),
    ):
        with pytest.raises(InputContractError):
            SPEC.check(bad)


def test_input_spec_normalise_reorders_channels_before_statistics():
    image = torch.tensor([0.5, 0.6, 0.7]).view(1, 3, 1, 1)
    assert torch.allclose(SPEC.normalise(image).flatten(), torch.tensor([0.6, 0.2, 0.05]))


def test_input_spec_round_trips_through_dict():
    assert InputSpec.from_dict(SPEC.to_dict()) == SPEC


def test_to_unit_tensor_keeps_rgb_order_and_scales_to_unit_range():
    pixels = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3) * 20
    tensor = to_unit_tensor(pixels)
    assert tensor.shape == (1, 3, 2, 2)
    assert torch.allclose(tensor[0, :, 0, 1], torch.tensor([60.0, 80.0, 100.0]) / 255)
