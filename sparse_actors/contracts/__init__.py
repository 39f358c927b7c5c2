"""What a third party implements: microscopes and detectors."""
