"""The stage: scenario, data, the Flower run, what each vantage sees, scoring, report and command line."""
