"""Partitions of a graph's neurons: the record, its text form, and the comparison of two of them."""

from innersight_graph.partition.community_graph import community_graph as community_graph
from innersight_graph.partition.comparing import Agreement as Agreement
from innersight_graph.partition.comparing import agreement as agreement
from innersight_graph.partition.comparing import align as align
from innersight_graph.partition.record import Partition as Partition
from innersight_graph.partition.record import as_partition as as_partition
