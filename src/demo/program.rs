//! Programs that the app runs. It understands `print("…")` and `time.sleep(…)` and ignores everything else.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;
use tokio::time::Sleep;

/// The output of a running program.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum ProgramOutput {
    /// A printed line.
    Text(String),
    /// The program has ended.
    Finished,
}

/// The program that a socket runs, if any.
#[derive(Default)]
pub(super) struct Program {
    steps: VecDeque<ProgramStep>,
    asleep: Option<Pin<Box<Sleep>>>,
}

enum ProgramStep {
    Print(String),
    Sleep(Duration),
    Finish,
}

/// The longest `time.sleep`, in seconds.
const MAX_SLEEP: f64 = 60.0;
/// The longest program, in lines.
const MAX_LINES: usize = 500;

impl Program {
    /// Starts the program in `code`.
    pub(super) fn start(code: &str) -> Self {
        let lines = code.lines().take(MAX_LINES).filter_map(step_of);
        Self { steps: lines.chain([ProgramStep::Finish]).collect(), asleep: None }
    }

    /// Runs until the next output, or forever if there is none. Cancel safe.
    pub(super) async fn run(&mut self) -> ProgramOutput {
        loop {
            if let Some(sleep) = &mut self.asleep {
                sleep.await;
                self.asleep = None;
            }
            match self.steps.pop_front() {
                Some(ProgramStep::Print(text)) => return ProgramOutput::Text(text),
                Some(ProgramStep::Sleep(duration)) => self.asleep = Some(Box::pin(tokio::time::sleep(duration))),
                Some(ProgramStep::Finish) => return ProgramOutput::Finished,
                None => std::future::pending().await,
            }
        }
    }
}

fn step_of(line: &str) -> Option<ProgramStep> {
    let line = line.trim();
    if let Some(argument) = argument_of(line, "print(") {
        let unquoted = ['"', '\''].iter().find_map(|quote| argument.strip_prefix(*quote)?.strip_suffix(*quote));
        return Some(ProgramStep::Print(unquoted.unwrap_or(argument).to_owned()));
    }
    let seconds: f64 = argument_of(line, "time.sleep(")?.parse().ok()?;
    Duration::try_from_secs_f64(seconds.min(MAX_SLEEP)).ok().map(ProgramStep::Sleep)
}

fn argument_of<'a>(line: &'a str, call: &str) -> Option<&'a str> {
    line.strip_prefix(call)?.strip_suffix(')').map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn it_prints_and_sleeps_and_finishes() {
        let code = "# a comment\nprint(\"one\")\ntime.sleep(0.02)\n  print( 'two' )\nprint(6 * 7)\ntime.sleep(-1)";
        let mut program = Program::start(code);
        assert_eq!(program.run().await, ProgramOutput::Text("one".into()));
        // Dropping the future during a sleep does not restart the sleep.
        assert_eq!(program.run().now_or_never(), None);
        assert_eq!(program.run().await, ProgramOutput::Text("two".into()));
        assert_eq!(program.run().await, ProgramOutput::Text("6 * 7".into()));
        assert_eq!(program.run().await, ProgramOutput::Finished);
        assert_eq!(program.run().now_or_never(), None);
    }
}
