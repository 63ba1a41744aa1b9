"""Facts about platforms agree with themselves and with the GPUs that the memory model knows."""

import pytest

from dragoman import gpus, platforms
from dragoman.errors import InputError


@pytest.mark.parametrize("platform", platforms.every().values(), ids=lambda platform: platform.name)
def test_every_offer_has_a_gpu_on_which_torch_runs_and_one_kind_of_price(platform: platforms.Platform) -> None:
    assert platform.offers
    for offer in platform.offers:
        assert gpus.find(offer.gpu).memory_bytes > 0
        assert (offer.usd_per_hour is None) != (offer.usd_per_month is None)
    assert all(source.startswith("https://") for source in platform.sources)


def test_the_first_offer_of_a_platform_is_its_cheapest() -> None:
    for platform in platforms.every().values():
        prices = [offer.usd_per_hour for offer in platform.offers if offer.usd_per_hour is not None]
        assert prices[0] == min(prices)


def test_a_platform_and_its_machines_are_found_by_name_or_refused_with_what_was_meant() -> None:
    space = platforms.find("space")
    assert space.offer().flavor == "t4-small"
    assert space.offer("l4").flavor == space.offer("l4x1").flavor == "l4x1"
    with pytest.raises(InputError, match=r"kagle is no platform\n  try: did you mean kaggle\?"):
        platforms.find("kagle")
    with pytest.raises(InputError, match=r"Docker Space has no rtx4090"):
        space.offer("rtx4090")


def test_a_paid_machine_may_have_a_longer_session_than_its_platform() -> None:
    colab = platforms.find("colab")
    assert colab.limit_hours(colab.offer("free")) == 12
    assert colab.limit_hours(colab.offer("pro")) == 24
    assert platforms.find("space").limit_hours(platforms.find("space").offer()) is None
