"""The figures of the paper and of the chapters: arrays and tables in, matplotlib out."""
