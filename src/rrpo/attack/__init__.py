"""Attacks on reward models: how little makes one say an emotion that is not there?"""
