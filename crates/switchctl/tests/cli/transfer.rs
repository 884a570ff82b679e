//! Messages told, written out and taken in.

use control::maildrop;
use expect_test::expect;

use super::{Site, fill};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_traced_by_what_its_owners_wrote() {
    let site = Site::new();
    fill(&site.path("spool")).await;
    let run = site.run(&["trace", "message", "a-1-1", "-o", "tsv"]);
    assert_eq!(run.code, 0, "{}", run.err);
    expect![[r"
        at	epoch	node	event	text
        2023-11-14T22:13:20Z	1	a	accepted	from <sender@example.test> for one@example.test, 47 bytes, client 127.0.0.1
        2023-11-14T22:13:20Z	1	a	attempt	to 10.0.0.1:25 for one@example.test
        2023-11-14T22:13:20Z	1	a	delivered	one@example.test
    "]]
    .assert_eq(&run.out);
    let waiting = site.run(&["trace", "message", "a-1-3"]);
    assert!(waiting.out.contains("four@example.test: 450 4.2.0 not now"), "{}", waiting.out);
    assert_eq!(site.run(&["trace", "message", "a-1-ff"]).code, 7);
    assert_eq!(site.run(&["trace", "message", "x-1-1"]).code, 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_out_can_be_taken_in_again() {
    let site = Site::new();
    fill(&site.path("spool")).await;
    let folder = site.path("out");
    let run =
        site.run(&["queue", "export", folder.to_str().unwrap(), "--node", "a", "--dry-run", "-o", "tsv"]);
    expect![[r"
        queue	messages	bytes	failed
        a	2	94	0
    "]]
    .assert_eq(&run.out);
    assert!(run.code == 0 && !folder.exists(), "{}", run.err);
    let run = site.run(&["queue", "export", folder.to_str().unwrap(), "to:four@example.test", "--node", "a"]);
    assert_eq!(run.code, 0, "{}{}", run.out, run.err);
    assert_eq!(std::fs::read(folder.join("a-1-3.eml")).unwrap(), super::BODY);
    let again = site.run(&["queue", "export", folder.to_str().unwrap(), "--node", "a"]);
    assert!(again.code == 1 && again.err.contains("name an empty folder"), "{}", again.err);

    std::fs::write(folder.join("b.eml"), "Return-Path: <r@x.test>\nTo: t@x.test\n\ntext\n").unwrap();
    std::fs::write(folder.join("c.eml"), "Subject: nobody\n\ntext\n").unwrap();
    std::fs::remove_file(folder.join("a-1-2.eml")).unwrap();
    let drop = maildrop::directory(&site.path("state"));
    std::fs::create_dir_all(&drop).unwrap();
    let import = |more: &[&str]| site.run(&[&["queue", "import", folder.to_str().unwrap()], more].concat());
    let run = import(&["--dry-run", "-o", "json"]);
    assert_eq!(
        (run.code, run.json()["messages"].as_u64(), run.json()["failed"].as_u64()),
        (3, Some(2), Some(1))
    );
    let run = import(&["to:t@x.test", "size:<1KiB", "--dry-run", "-o", "json"]);
    assert_eq!(run.json()["messages"], 1, "{}", run.out);
    let unfit = import(&["state:held"]);
    assert!(unfit.code == 2 && unfit.err.contains("state: says nothing of a file"), "{}", unfit.err);
    assert!(maildrop::slots(&drop).unwrap().is_empty());
    let run = import(&[]);
    assert_eq!(run.code, 3, "{}", run.out);
    assert!(run.out.contains("it has no recipient"), "{}", run.out);
    assert!(run.out.ends_with("2 messages taken, 3 recipients; 1 failed\n"), "{}", run.out);
    let slots = maildrop::slots(&drop).unwrap();
    assert_eq!(slots.iter().map(maildrop::Slot::name).collect::<Vec<_>>(), ["import-a-1-3", "import-b"]);
    let letters: Vec<_> = slots.iter().map(|slot| slot.open().unwrap().letter.addresses().unwrap()).collect();
    let told = |n: usize| letters.get(n).map(|(from, to)| (from.to_string(), to.len())).unwrap();
    assert_eq!((told(0), told(1)), (("sender@example.test".into(), 2), ("r@x.test".into(), 1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_directory_from_elsewhere_is_adopted_once_and_one_of_this_cluster_never() {
    let site = Site::new();
    fill(&site.path("spool")).await;
    let drop = maildrop::directory(&site.path("state"));
    std::fs::create_dir_all(&drop).unwrap();
    let own = site.run(&["queue", "adopt", site.path("spool/a").to_str().unwrap()]);
    assert_eq!(own.code, 4, "{}{}", own.out, own.err);
    assert!(own.err.contains("switchctl ha takeover a"), "{}", own.err);
    let elsewhere = site.path("backup");
    #[expect(clippy::disallowed_methods, reason = "an operator moves a folder")]
    std::fs::rename(site.path("spool/a"), &elsewhere).unwrap();
    let look = site.run(&["queue", "adopt", elsewhere.to_str().unwrap(), "--dry-run"]);
    assert!(look.code == 0 && look.out.contains("2 messages could be taken, 3 recipients"), "{}", look.out);
    assert!(elsewhere.exists() && maildrop::slots(&drop).unwrap().is_empty());
    let run = site.run(&["queue", "adopt", elsewhere.to_str().unwrap(), "-o", "tsv"]);
    assert_eq!(run.code, 0, "{}{}", run.out, run.err);
    expect![[r"
        file	from	recipients	fault
        a-1-2	<sender@example.test>	1	-
        a-1-3	<sender@example.test>	2	-
    "]]
    .assert_eq(&run.out);
    let slots = maildrop::slots(&drop).unwrap();
    assert_eq!(slots.iter().map(maildrop::Slot::name).collect::<Vec<_>>(), ["adopt-a-1-2", "adopt-a-1-3"]);
    assert!(!elsewhere.exists() && site.path("backup.adopted").is_dir());
    assert_eq!(site.run(&["queue", "adopt", elsewhere.to_str().unwrap()]).code, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_sender_wished_of_reports_is_written_out_and_taken_in_and_adopted() {
    let site = Site::new();
    let queue = super::own(&site.path("spool")).await;
    super::accept(&queue, &["plain", "wishing"]).await;
    queue.drain();
    queue.release().await;
    let (folder, drop) = (site.path("out"), maildrop::directory(&site.path("state")));
    std::fs::create_dir_all(&drop).unwrap();
    let run = site.run(&["queue", "export", folder.to_str().unwrap(), "--node", "a"]);
    assert_eq!(run.code, 0, "{}", run.err);
    let written: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("a-1-1.json")).unwrap()).unwrap();
    let wishes = serde_json::json!({
        "ret": "hdrs", "envid": "QQ=1", "require_tls": true,
        "each": [ {}, { "notify": "success,delay", "original": "rfc822;alias@example.test" } ],
    });
    assert_eq!(written["wishes"], wishes, "{written}");
    assert_eq!(site.run(&["queue", "import", folder.to_str().unwrap()]).code, 0);
    let elsewhere = site.path("backup");
    #[expect(clippy::disallowed_methods, reason = "an operator moves a folder")]
    std::fs::rename(site.path("spool/a"), &elsewhere).unwrap();
    assert_eq!(site.run(&["queue", "adopt", elsewhere.to_str().unwrap()]).code, 0);
    let slots = maildrop::slots(&drop).unwrap();
    assert_eq!(slots.iter().map(maildrop::Slot::name).collect::<Vec<_>>(), ["adopt-a-1-1", "import-a-1-1"]);
    for slot in slots {
        let letter = slot.open().unwrap().letter;
        assert_eq!(serde_json::json!(letter.wishes()), wishes, "{}", slot.name());
        let (from, to) = letter.addresses().unwrap();
        let mut envelope = mail_model::Envelope::from_sender(from);
        envelope.recipients.extend(to.into_iter().map(mail_model::Recipient::plain));
        letter.wishes().apply(&mut envelope).unwrap();
        assert!(envelope.require_tls && envelope.recipients.last().unwrap().wants_success());
    }
    // What cannot be meant is named where it can be mended, and nothing is left for the switch to refuse.
    let mistaken = r#"{"version":1,"from":"","to":["b@x.test"],"wishes":{"each":[{"notify":"always"}]}}"#;
    std::fs::write(folder.join("a-1-1.json"), mistaken).unwrap();
    let run = site.run(&["queue", "import", folder.to_str().unwrap()]);
    assert!(run.code == 1 && run.out.contains("'always': write never"), "{}{}", run.out, run.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_of_a_directory_is_adopted_and_the_rest_later_and_nothing_twice() {
    let site = Site::new();
    fill(&site.path("spool")).await;
    let drop = maildrop::directory(&site.path("state"));
    std::fs::create_dir_all(&drop).unwrap();
    let elsewhere = site.path("backup");
    #[expect(clippy::disallowed_methods, reason = "an operator moves a folder")]
    std::fs::rename(site.path("spool/a"), &elsewhere).unwrap();
    let (dir, begun) = (elsewhere.to_str().unwrap().to_owned(), format!("{}.adopting", elsewhere.display()));
    let adopt = |dir: &str, terms: &[&str]| site.run(&[&["queue", "adopt", dir], terms].concat());
    let names =
        || -> Vec<String> { maildrop::slots(&drop).unwrap().iter().map(maildrop::Slot::name).collect() };
    let refused = adopt(&dir, &["node:a"]);
    assert!(refused.code == 2 && refused.err.contains("leave it out"), "{}", refused.err);
    let run = adopt(&dir, &["to:four@example.test", "reply~not now", "age:>1h"]);
    assert!(run.code == 0 && run.out.contains("1 messages taken, 2 recipients"), "{}{}", run.out, run.err);
    assert!(run.err.contains("1 other messages stay in"), "{}", run.err);
    assert_eq!(names(), ["adopt-a-1-3"]);
    // The switch picks it up, and nobody knows of it any more but the list.
    maildrop::slots(&drop).unwrap().remove(0).remove().unwrap();
    let run = adopt(&begun, &["state:held"]);
    assert!(run.code == 0 && run.out.contains("0 messages taken"), "{}{}", run.out, run.err);
    let run = adopt(&begun, &[]);
    assert!(run.code == 0 && run.out.contains("1 messages taken, 1 recipients"), "{}{}", run.out, run.err);
    assert_eq!(names(), ["adopt-a-1-2"]);
    assert!(site.path("backup.adopted").is_dir());
    assert_eq!(std::fs::read_to_string(site.path("backup.adopted-ids")).unwrap(), "a-1-3\na-1-2\n");
}

/// So many messages that what is on the way is worth a word, one of which nobody can read.
#[test]
fn a_long_job_says_how_far_it_is_and_counts_at_its_end() {
    let site = Site::new();
    let folder = site.path("many");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::create_dir_all(maildrop::directory(&site.path("state"))).unwrap();
    for number in 0..2_001 {
        std::fs::write(folder.join(format!("{number:04}.eml")), "To: a@x.test\nFrom: b@x.test\n\nx\n")
            .unwrap();
    }
    std::fs::write(folder.join("0007.json"), "{}").unwrap();
    let run = site.run(&["queue", "import", folder.to_str().unwrap(), "--dry-run"]);
    assert_eq!(run.code, 3, "{}", run.err);
    for wanted in
        ["import: 1000 of 2001 messages", "import: 2000 of 2001 messages", "import: 2001 of 2001 messages"]
    {
        assert!(run.err.contains(wanted), "{}", run.err);
    }
    assert!(run.out.contains("0007") && run.out.contains("NAME.json: "), "{}", run.out);
    assert!(run.out.ends_with("2000 messages could be taken, 2000 recipients; 1 failed\n"), "{}", run.out);
}
