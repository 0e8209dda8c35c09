"""How a pair of images aligns: keypoints, homography, seams."""
