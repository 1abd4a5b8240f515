"""What every section of a configuration is made of; data, feature nets, files of others."""
