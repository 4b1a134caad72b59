"""A Ray cluster on Kubernetes for one task, which KubeRay creates and ends.

The task creates a RayJob in *InteractiveMode*: KubeRay makes a Ray cluster for it, ends that after a time that the
RayJob states, and submits nothing itself. So the task submits its job to the cluster as to any other, follows it, and
deletes the RayJob. Facts about KubeRay in comments are those of its versions 1.5 and 1.6; ``RJ`` is its
``ray-operator/controllers/ray/rayjob_controller.go``.
"""
