"""The picture of size against quality: valid XML, a point for each version, larger to the right, worse above."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from mkllm.builder.quant.chart import chart
from mkllm.builder.quant.evaluate import Evaluation, Quality
from mkllm.builder.quant.perplexity import Course, Divergence, Estimate

SVG = "{http://www.w3.org/2000/svg}"


def quality(name: str, size: int, mean: float | None) -> Quality:
    far = None if mean is None else Divergence(Estimate(mean, mean / 10), 2 * mean, Estimate(0.9, 0.01))
    return Quality(f"<m>-{name}", name, size, 10**9, Estimate(7.5, 0.1), far)


def drawn(*versions: Quality) -> ElementTree.Element:
    course = Course(Path("text.txt"), 1000, 512, 4, 32000)
    return ElementTree.fromstring(chart(Evaluation(course, (quality("F16", 2 * 10**9, None), *versions))))


def test_points_lie_by_size_and_quality() -> None:
    root = drawn(quality("Q8_0", 10**9, 0.001), quality("Q4_K_M", 5 * 10**8, 0.03), quality("Q2_K", 3 * 10**8, 0.4))
    points = [(float(circle.get("cx", "")), float(circle.get("cy", ""))) for circle in root.iter(f"{SVG}circle")]
    assert len(points) == 3
    assert points[0][0] > points[1][0] > points[2][0] and points[0][1] > points[1][1] > points[2][1]
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert {"Q8_0", "Q4_K_M", "Q2_K", "0.001", "0.1", "<m>-F16: size against quality"} <= set(texts)


def test_versions_that_are_alike() -> None:
    root = drawn(quality("Q8_0", 10**9, 0.0), quality("Q8_0", 10**9, 0.0))
    assert len(list(root.iter(f"{SVG}circle"))) == 2
