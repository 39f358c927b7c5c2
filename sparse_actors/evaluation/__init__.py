"""How good detections are: judged on pairs of scans, promised for a survey, audited while it runs."""
