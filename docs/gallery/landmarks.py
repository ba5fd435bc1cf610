"""Landmarks and bounding boxes: they move with the content of the image."""

from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
from skimage import data

import elasticnd

picture = data.cat()[:, 80:380]
landmarks = np.array([[110.0, 92.0], [138.0, 243.0], [243.0, 183.0]])  # eyes and nose
boxes = np.array([[[70.0, 45.0], [275.0, 265.0]]])  # one, around them
(top, left), (bottom, right) = boxes[0]
corners = [(top, left), (top, right), (bottom, right), (bottom, left), (top, left)]
outline = np.concatenate([np.linspace(*side, 100) for side in pairwise(corners)])

deformation = elasticnd.Deformation.random(
    picture.shape[:2], sigma=17, points=4, rng=6, fold="scale"
)
deformed = deformation.apply(picture, mode="nearest", axis=(0, 1))

moved = deformation.move_points(landmarks).points
bent = deformation.move_points(outline).points
around = deformation.move_boxes(boxes).boxes

figure, panels = plt.subplots(1, 2, figsize=(7, 3.6))
for panel, title, shown, points, line, (low, high) in [
    (panels[0], "image", picture, landmarks, outline, boxes[0]),
    (panels[1], "deformed", deformed, moved, bent, around[0]),
]:
    panel.imshow(shown)
    panel.plot(points[:, 1], points[:, 0], "o", color="#e5004f", mec="white", ms=9)
    panel.plot(line[:, 1], line[:, 0], color="cyan")
    width, height = (high - low)[::-1]
    box = plt.Rectangle(low[::-1], width, height, fill=False, ec="yellow", ls="--")
    panel.add_patch(box)
    panel.set_title(title)
    panel.set_axis_off()
figure.savefig("landmarks.png")
