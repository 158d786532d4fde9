"""rule: the client's whole rule of docs/protocol.md, as small as it can be written."""


def units(text):
    """How long a text is where positions count UTF-16 units."""
    return len(text.encode("utf-16-le")) // 2


class Rule:
    def __init__(self, ask_run):
        self.ask_run = ask_run  # called with a run's id when there is a gap in its text
        self.runs = {}          # run id -> text so far
        self.last = 0           # of the durable events
        self.heard = []         # offsets as they came
        self.messages = []      # durable events that counted
        self.gaps = 0
        self.unrecovered = 0

    def subscribed(self, data, was_recovering=False, recovered=False):
        if was_recovering and not recovered:
            self.unrecovered += 1
        self.runs = {run["r"]: run["text"] for run in data["runs"]}

    def publication(self, offset, event):
        if offset:
            self.heard.append(offset)
            if offset <= self.last:
                return
            self.last = offset
            self.messages.append(event)
            if event["t"] == "msg" and "run" in event:
                self.runs.pop(event["run"], None)
        elif event["t"] == "d" and "k" not in event:
            have = self.runs.get(event["r"], "")
            if event["p"] > units(have):
                self.gaps += 1
                self.ask_run(event["r"])
            elif event["p"] + units(event["s"]) > units(have):
                kept = have.encode("utf-16-le")[:2 * event["p"]].decode("utf-16-le")
                self.runs[event["r"]] = kept + event["s"]

    def run_came(self, entry):
        """The answer to run.get. An ended run is told by its message, too."""
        if entry.get("t") != "msg" and entry["r"] in self.runs:
            if units(entry["text"]) > units(self.runs[entry["r"]]):
                self.runs[entry["r"]] = entry["text"]

    def final(self, run):
        for event in self.messages:
            if event["t"] == "msg" and event.get("run") == run:
                return event
        return None
