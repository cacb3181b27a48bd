"""What bench/engine and bench/learn share: programs are brought up to date and run when nobody else measures, and a figure is one JSON line with its bar."""
import json, os, pathlib, subprocess, sys, time

HERE = pathlib.Path(__file__).resolve().parents[1]
OURS = pathlib.Path(os.environ.get("OURS", HERE / "build/release/ruvllm"))
WORK = pathlib.Path(os.environ.get("WORK", "/var/tmp"))
LOCK = os.environ.get("LOCK", "/tmp/bench.lock")
# autogroup scheduling makes `nice` count only inside a session: the weight has to be that of the group
QUIET = ["flock", LOCK, "setsid", "-w", "bash", "-c", 'echo -19 > /proc/self/autogroup 2> /dev/null; exec "$@"', "_"]


def say(text):
    print(f"{pathlib.Path(sys.argv[0]).name}:", text, file=sys.stderr)


def lines_of(command, **environment):
    done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, check=True, text=True,
                          env=os.environ | {k: str(v) for k, v in environment.items()})
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def machine():
    for line in open("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return os.uname().machine


COMMIT = subprocess.run(["git", "-C", HERE, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
CPU = machine()


def rounded(value):
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return round(value, 4) if isinstance(value, float) else value


def put(figure, measured, bar, at_most=False, **more):
    """One line; measured is what is compared with the bar."""
    print(json.dumps({"figure": figure, "measured": round(measured, 4), "bar": bar, "at_most": at_most,
                      "met": measured <= bar if at_most else measured >= bar, **rounded(more), "cpu": CPU, "commit": COMMIT}), flush=True)


def build(*targets):
    """Brings the program and these targets up to date; OURS names one that is taken as it is."""
    if "OURS" not in os.environ:
        for command in (["make", "-C", HERE, "release"], ["ninja", "-C", OURS.parent, "--quiet", *targets]):
            subprocess.run(command, stdout=sys.stderr, check=True)


def main(doc, figures, targets):
    """Measures the figures that were asked for, or all; the exit code."""
    wanted = sys.argv[1:] or list(figures)
    if set(wanted) & {"-h", "--help"}:
        print(doc)
        return 0
    unknown = [w for w in wanted if w not in figures]
    if unknown:
        say(f"no figure {', '.join(unknown)}; there are {' '.join(figures)}")
        return 2
    try:
        build(*targets)
    except (OSError, subprocess.CalledProcessError):
        say("cannot be built")
        return 2
    bad = 0
    for name in wanted:
        began = time.monotonic()
        try:
            figures[name]()
            say(f"{name} took {time.monotonic() - began:.0f} s")
        except (OSError, subprocess.CalledProcessError, StopIteration, KeyError, IndexError, ValueError, ArithmeticError) as e:
            say(f"{name} could not be measured: {type(e).__name__} {e}")
            bad = 1
    return bad
