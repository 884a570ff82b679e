//! Real children: `sleep` and `sh`.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use super::*;

fn sleeper() -> Command {
    let mut command = Command::new("sleep");
    command.arg("600");
    command
}

#[tokio::test]
async fn the_end_of_a_child_is_seen_with_its_status() {
    let launcher = Launcher::start().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "exit 75"]);
    let mut child = launcher.spawn(command).await.unwrap();
    assert_eq!(child.wait().await.unwrap().code(), Some(75));
    assert_eq!(child.wait().await.unwrap().code(), Some(75));
}

#[tokio::test]
async fn a_child_is_ended_while_another_task_waits() {
    let launcher = Launcher::start().unwrap();
    for (signal, number) in
        [(Signaller::terminate as fn(&Signaller) -> io::Result<()>, 15), (Signaller::kill, 9)]
    {
        let mut child = launcher.spawn(sleeper()).await.unwrap();
        let signaller = child.signaller();
        let waiting = tokio::spawn(async move { child.wait().await });
        tokio::task::yield_now().await;
        signal(&signaller).unwrap();
        assert_eq!(waiting.await.unwrap().unwrap().signal(), Some(number));
    }
}

#[tokio::test]
async fn a_signal_to_an_ended_child_reaches_nobody_and_is_no_error() {
    let launcher = Launcher::start().unwrap();
    let mut child = launcher.spawn(Command::new("true")).await.unwrap();
    child.wait().await.unwrap();
    child.terminate().unwrap();
    child.kill().unwrap();
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let launcher = Launcher::start().unwrap();
    let error = launcher.spawn(Command::new("/nonexistent/switch")).await.unwrap_err();
    assert!(error.to_string().contains("/nonexistent/switch"), "{error}");
}

#[tokio::test]
async fn a_child_outlives_the_thread_that_ordered_it_and_every_other_launcher_handle() {
    let runtime = tokio::runtime::Handle::current();
    let ordered = tokio::task::spawn_blocking(move || {
        // The ordering thread is a plain one that ends here, and the only handle is dropped with it.
        std::thread::spawn(move || {
            runtime.block_on(async { Launcher::start().unwrap().spawn(sleeper()).await.unwrap() })
        })
        .join()
        .unwrap()
    });
    let mut child = ordered.await.unwrap();
    assert_eq!(child.try_wait().unwrap(), None);
    child.kill().unwrap();
    // Had the kernel sent SIGTERM at the end of a thread, it would have come first.
    assert_eq!(child.wait().await.unwrap().signal(), Some(9));
}

/// Re-executes this test program as the parent of a grandchild, kills it with SIGKILL, and sees the grandchild end.
#[tokio::test]
async fn a_child_ends_when_its_parent_is_killed() {
    const MARK: &str = "DAEMON_KIT_TEST_PARENT";
    if std::env::var_os(MARK).is_some() {
        let launcher = Launcher::start().unwrap();
        // The grandchild keeps the pipe open until its own end.
        let mut grandchild = launcher.spawn(sleeper()).await.unwrap();
        grandchild.wait().await.unwrap();
        return;
    }
    let launcher = Launcher::start().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "process::tests::a_child_ends_when_its_parent_is_killed", "--nocapture"]);
    command.env(MARK, "1").stdout(Stdio::null()).stderr(Stdio::piped());
    let mut parent = launcher.spawn(command).await.unwrap();
    let mut pipe = parent.process.stderr.take().unwrap();
    let children = format!("/proc/{}/task", parent.pid());
    while !has_grandchild(&children) {
        assert_eq!(parent.try_wait().unwrap(), None, "the parent ended early");
        tokio::task::yield_now().await;
    }
    parent.kill().unwrap();
    parent.wait().await.unwrap();
    // End of file comes only when the grandchild, too, has closed its copy, that is: has ended. On a thread of its own: a
    // runtime would wait for it even after the test has failed.
    let (tell, ended) = oneshot::channel();
    std::thread::spawn(move || tell.send(pipe.read_to_end(&mut Vec::new())));
    let ended = tokio::time::timeout(std::time::Duration::from_secs(20), ended).await;
    ended.expect("the grandchild lives on").unwrap().unwrap();
}

fn has_grandchild(tasks: &str) -> bool {
    let Ok(threads) = std::fs::read_dir(tasks) else { return false };
    threads.flatten().any(|thread| {
        let children = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        children.split_whitespace().any(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "sleep")
        })
    })
}
