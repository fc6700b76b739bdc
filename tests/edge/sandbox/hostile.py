"""A child like the real one, with one more job: to run Python, as somebody might who has taken a runtime over."""

import sys

from edge.sandbox import child, doors, jobs


def taken_over(job, code):
    said = []
    exec(code.decode(), {"say": said.append})
    return {"said": said}, []


if __name__ == "__main__":
    open_ones = {"seccomp": doors.seccomp, "landlock": doors.landlock}
    for name in sys.argv[1:]:  # as on a system that does not have it
        open_ones[name].close = lambda: None
    jobs.JOBS["python"] = taken_over
    child.serve(0, 1)
