"""Has `fetch` ask many origins with few descriptors: for bodies in its results, then in files.

few_descriptors.py ... PORT     the origins are 127.1.0.1 and on, at PORT
"""

import argparse
import hashlib
import os
import random

import driving
import files

DESCRIPTORS = 64
# More than there are descriptors.
CONCURRENCY = 200


def jobs(options):
    for number, name in files.names(options.jobs, random.Random(1)):
        origin = number % options.origins
        address = f"127.1.{origin // 150}.{origin % 150 + 1}"
        yield {"id": number, "url": f"http://{address}:{options.port}/{name}?{number}"}, name


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--fetch", "--files", "--errors", "--output"):
        parser.add_argument(name, required=True)
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--origins", type=int, required=True)
    parser.add_argument("port", type=int)
    options = parser.parse_args()
    digests = files.digests(options.files)

    def judge_body(_, name, result):
        return files.problem_of_body(result, *digests[name])

    def judge_file(job, name, result):
        if result["error"] is not None or result["status"] != 200:
            return "not fetched"
        with open(os.path.join(options.output, str(job["id"])), "rb") as file:
            digest = hashlib.sha256(file.read()).hexdigest()
        return None if digest == digests[name][1] else "the file's SHA-256 differs"

    template = os.path.join(options.output, "{id}")
    for part, more, judge in (
        ("few descriptors, bodies", [], judge_body),
        ("few descriptors, files", ["-o", template], judge_file),
    ):
        arguments = ["-c", str(CONCURRENCY), *more]
        with driving.Program(
            options.fetch, arguments, judge, options.errors, DESCRIPTORS
        ) as program:
            program.feed(jobs(options))
            program.finish()
        driving.report(
            part,
            program.wrong,
            f"{program.checked} of {options.jobs} right from {options.origins} origins with "
            f"{DESCRIPTORS} descriptors, {program.seconds():.1f} s",
        )


if __name__ == "__main__":
    main()
