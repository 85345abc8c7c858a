"""The image under the name in the charts' defaults, for tests that install the charts without values."""

import pytest
import yaml

from support.helm import CHARTS
from support.shell import run


@pytest.fixture(scope="session")
def default_image():
    version = yaml.safe_load((CHARTS / "warmline" / "Chart.yaml").read_text())["appVersion"]
    images = [image for image in run("ctr", "images", "ls", "-q").split() if image.endswith("warmline/warmline:test")]
    assert images
    for image in images:
        run("ctr", "images", "tag", "--force", image, image.removesuffix("test") + version)
