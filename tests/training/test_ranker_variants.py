"""Every network of the ranker, served or compared, is the same in torch and in NumPy."""

import numpy as np
import pytest
import torch

from benchmarks.ranker_networks import VARIANTS, Variant
from contracts.policy import ACTIONS
from models.ranker import activate, prepare
from training.recipes.ranker import RankerRows


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_torch_and_numpy_agree(variant: Variant) -> None:
    generator = np.random.Generator(np.random.PCG64(4))
    features = generator.normal(size=(400, 6)).astype(np.float16)
    features[::7, 2] = np.nan
    labels = (generator.random((400, len(ACTIONS))) < 0.3).astype(np.float32)
    networks: list[torch.nn.Module] = []

    def build(*sizes: object) -> torch.nn.Module:
        networks.append(variant.build(*sizes))
        for weight in networks[-1].parameters():
            torch.nn.init.normal_(weight, std=0.2)
        return networks[-1]

    ranker, _ = variant._replace(build=build).fit(
        RankerRows(features, labels, np.arange(400) // 4), 1e-3, 0
    )
    x = prepare(features.astype(np.float32), ranker.mean, ranker.scale, ranker.config.input_bound)
    with torch.no_grad():
        logits = [network(torch.from_numpy(x)).numpy() for network in networks]
    expected = activate(np.mean(logits, axis=0))
    assert len(logits) == variant.members
    np.testing.assert_allclose(ranker.predict(features), expected, rtol=1e-4, atol=1e-5)
