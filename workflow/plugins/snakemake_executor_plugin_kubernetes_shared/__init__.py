"""Snakemake's Kubernetes executor for a volume that all jobs share, as the nodes of a SLURM cluster do.

The executor as published gives each job an empty folder, and fetches and stores the declared files alone. Images, patch
banks and unfinished embeddings are not declared, so jobs run in the folder of this process instead, which must lie on
a persistent volume that is mounted at the same path here and there.
"""

import os
from dataclasses import replace

import snakemake_executor_plugin_kubernetes as published
from snakemake_executor_plugin_kubernetes import ExecutorSettings
from snakemake_interface_common.exceptions import WorkflowError

__all__ = ["Executor", "ExecutorSettings", "common_settings"]

common_settings = replace(
    published.common_settings,
    implies_no_shared_fs=False,
    job_deploy_sources=False,
    auto_deploy_default_storage_provider=False,
    spawned_jobs_assume_shared_fs=True,
)


class Executor(published.Executor):
    """Jobs in the folder of this process."""

    def __post_init__(self):
        here, volumes = os.getcwd(), self.workflow.executor_settings.persistent_volumes
        if not any(os.path.commonpath([here, volume.path]) == str(volume.path) for volume in volumes):
            mounted = ", ".join(volume.unparse() for volume in volumes) or "none"
            raise WorkflowError(f"{here} lies on no volume that the jobs would share; persistent volumes: {mounted}")
        super().__post_init__()

    def get_job_exec_prefix(self, job):
        """Begin each job in this folder."""
        return f"cd '{os.getcwd()}'"
