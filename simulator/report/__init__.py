from simulator.report.run_data import RunData, load_run

__all__ = ["RunData", "load_run"]
