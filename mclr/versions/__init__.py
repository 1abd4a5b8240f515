"""Result versions: results depend on what a kind of job computes, not on the text of its code.

``workflow/versions.yaml`` has for each kind a version, which jobs and saved training states depend
on, and the digest of the code that the version was last confirmed with. A change of the code that
changes no result leaves the version; one that does raises it. CONTRIBUTING.md says how.
"""
