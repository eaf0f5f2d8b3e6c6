//! Instructions, counted by valgrind's callgrind.

use std::process::{Command, Stdio};
use std::{env, fs, process};

use anyhow::{Context, bail, ensure};

/// The function within which callgrind counts. Each time that it is left, a part is complete.
const MEASURED: &str = "bench_complexity::operations::measured_part";

/// Lets glibc copy by vectors. Callgrind counts each byte of a `rep movsb` as an instruction.
const TUNABLES: &str =
    "glibc.cpu.x86_rep_movsb_threshold=1000000000:glibc.cpu.x86_rep_stosb_threshold=1000000000";

/// Runs all operations in a room of so many players, and returns the instructions of each part in order.
pub(crate) fn count(players: usize) -> anyhow::Result<Vec<u64>> {
    let name = format!("cubesync-complexity-{}-{players}", process::id());
    let out = env::temp_dir().join(name);
    let program = env::current_exe().context("cannot find this program")?;
    let run = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg("--collect-atstart=no")
        .arg(format!("--toggle-collect={MEASURED}"))
        .arg(format!("--dump-after={MEASURED}"))
        .arg("--combine-dumps=yes")
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program)
        .args(["--measure", &players.to_string()])
        .env("GLIBC_TUNABLES", TUNABLES)
        .stdin(Stdio::null())
        .output();
    let run = match run {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => bail!(
            "there is no valgrind, which counts the instructions (on Debian: apt-get install valgrind)"
        ),
        run => run.context("cannot run valgrind")?,
    };
    let said = String::from_utf8_lossy(&run.stderr);
    ensure!(run.status.success(), "valgrind failed:\n{said}");
    let counted = fs::read_to_string(&out).context("callgrind has written nothing");
    // Somebody else may have removed it.
    let _ = fs::remove_file(&out);
    parts(&counted?)
}

/// Returns the instructions of each part of what callgrind has written, without those after the last part.
fn parts(text: &str) -> anyhow::Result<Vec<u64>> {
    let mut counts = Vec::new();
    let (mut is_of_program, mut summary) = (false, None::<u64>);
    for line in text.lines().chain(["part:"]) {
        if line.starts_with("part:") {
            counts.extend(summary.take().filter(|_| is_of_program));
        } else if let Some(trigger) = line.strip_prefix("desc: Trigger:") {
            is_of_program = !trigger.contains("termination");
        } else if let Some(count) = line.strip_prefix("summary:") {
            summary = Some(
                count
                    .trim()
                    .parse()
                    .context("callgrind's sum is no number")?,
            );
        }
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_file_are_read_in_order() {
        let part = |number, trigger, count| {
            format!(
                "part: {number}\ndesc: Trigger: {trigger}\nevents: Ir\nsummary: {count}\nfn=(1) x\n16 {count}\n\n"
            )
        };
        let text = part(1, "--dump-after=x", 12) + &part(2, "--dump-after=x", 7);
        let text = text + &part(3, "Program termination", 0);
        assert_eq!(parts(&text).unwrap(), [12, 7]);
        assert!(parts("part: 1\nsummary: many\n").is_err());
    }
}
