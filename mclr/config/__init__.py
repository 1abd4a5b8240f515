"""Typed experiment definition: a tier is one YAML file, validated before any job is planned.

The classes here, in ``mclr.settings`` (what every section is made of), and in models and
objectives are the only description of what a configuration may hold; the JSON schema in
``config/schema.json`` is generated from them. What the data decide (channels, number of classes,
image size unless a model asks for a smaller one) is absent: it is read from the data manifest.

Import from the modules, not from here: a job that reads one section then depends on that alone.
"""
