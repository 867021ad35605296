"""Listening tests: what people hear, asked blind, collected without loss, analysed."""
