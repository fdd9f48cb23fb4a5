#!/usr/bin/env python3
"""Prints so many lines as it is asked for, some of them late."""
import os
import sys
import time

count = int(os.environ["QUERY_STRING"].split("&")[0])
print("Content-Type: text/plain\n", flush=True)
for number in range(count):
    print(f"{number} squared is {number * number}")
    if number % (count // 4 + 1) == 0:
        sys.stdout.flush()
        time.sleep(0.05)
