"""Weigh any cluster from a table of its galaxies; `cluster_tools.weigh` stands for `weighing.one_cluster.weigh`."""
