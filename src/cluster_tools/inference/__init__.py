"""From predictions to masses: validation, priors, calibration, classical estimators, Table 1."""
