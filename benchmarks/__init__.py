"""Side by side with the bare model in one run, as ratios; not part of the test run."""
