"""Healthy and hacked runs that listen to themselves: how many alarms, how early?"""
