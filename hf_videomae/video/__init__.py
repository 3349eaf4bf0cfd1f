"""One video file, or its bytes, to one clip tensor: frame plans (`sampling`), decoding (`decoding`), transforms.

Everything here is `(T, C, H, W)`: T frames, C channels, height H, width W.
"""
