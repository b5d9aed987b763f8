//! Mistakes of a user: each is named, with its place and the next step.

use super::world::World;

#[test]
fn a_recipe_with_a_mistake_is_refused_with_its_line() {
    let world = World::shared();
    let refuse = |name: &str, text: &str, parts: &[&str]| {
        world.write(name, text);
        world.run(&["--teacher", "runs/teacher", name, "--out", "never"]).refused(parts);
        assert!(!world.path("never").exists(), "{name}");
    };
    refuse(
        "typo.toml",
        "[student]\nrepetition = 3",
        &[
            "unknown key `student.repetition`",
            "in typo.toml:2",
            "did you mean `student.repetitions`?",
        ],
    );
    refuse("kind.toml", "[train]\nsteps = \"many\"", &["`train.steps`", "in kind.toml:2"]);
    refuse("broken.toml", "\n[train", &["not valid TOML", "broken.toml:2"]);
    refuse(
        "zero.toml",
        "[train]\nsteps = 0\n[data]\nfiles = [\"x\"]",
        &["steps is 0", "train.steps"],
    );
    refuse("empty.toml", "", &["no text was given", "data.files"]);
    world.write("both.toml", "[model]\n[student]\n[data]\nfiles = [\"x\"]");
    world.run(&["both.toml"]).refused(&["[student]", "two recipes"]);
    world.run(&["both.toml", "--teacher", "x"]).refused(&["--teacher", "[model]"]);
    world.run(&["missing.toml"]).refused(&["no such recipe", "missing.toml"]);
    std::fs::write(world.path("latin1.toml"), b"name = \"\xe9\"").unwrap();
    world.run(&["latin1.toml"]).refused(&["not UTF-8"]);
    world.run(&["student.toml", "--set", "depth.ramp=2"]).refused(&["depth.ramp"]);
    world.run(&["student.toml", "--set", "depth"]).refused(&["no `=`"]);
    world.run(&["student.toml", "--set", "trian.steps=2"]).refused(&["did you mean `train`?"]);
    world.run(&["student.toml"]).refused(&["no teacher was given", "--teacher"]);
    world.run(&["teacher.toml"]).refused(&["factorize pretrain teacher.toml"]);
    world.run(&["pretrain", "student.toml"]).refused(&["hint: factorize student.toml"]);
}

#[test]
fn a_model_or_a_text_that_does_not_fit_is_refused() {
    let world = World::shared();
    world.run(&["inspect", "nowhere"]).refused(&["`nowhere`", "owner/name"]);
    world.run(&["inspect", "text.jsonl"]).refused(&["not a GGUF file"]);
    world.run(&["inspect", "runs/teacher", "--device", "tpu"]).refused(&["`tpu` is not a device"]);
    let text = ["evaluate", "--teacher", "runs/teacher", "--text"];
    world.run(&[&text[..], &["nothing.txt"]].concat()).refused(&["nothing.txt"]);
    world.write("empty.txt", "");
    world.run(&[&text[..], &["empty.txt"]].concat()).refused(&["no text"]);
    std::fs::write(world.path("bytes.txt"), b"\xff\xfe\xfd").unwrap();
    world.run(&[&text[..], &["bytes.txt"]].concat()).refused(&["bytes.txt", "UTF-8"]);
    let states = ["states", "--model", "runs/teacher", "--out", "s.safetensors", "--ids"];
    world.run(&[&states[..], &["1,99999"]].concat()).refused(&["token 99999", "300"]);
    assert!(!world.path("s.safetensors").exists());
    let generate = ["generate", "--model", "runs/teacher", "--prompt", "we", "--temperature"];
    world.run(&[&generate[..], &["NaN"]].concat()).refused(&["temperature"]);
    world.run(&["export", "runs/teacher", "--unrolled", "--out", "x"]).refused(&["not a student"]);
    assert!(!world.path("x").exists());
    let ordinary = ["export", "runs/teacher", "--dtype", "bf16", "--out", "x"];
    assert_eq!(world.run(&ordinary).good().stdout.trim(), "x");
    world.run(&["inspect", "x", "--json"]).good();
    let shape = ["--set", "student.core_layers=9"];
    world.distill("too-large", &shape).refused(&["11 layers", "the teacher has 6"]);
    // A run that never began is nothing to lose.
    world.distill("too-large", &["--smoke", "--quiet"]).good();
}

#[test]
fn a_folder_of_something_else_is_neither_used_nor_deleted() {
    let world = World::shared();
    std::fs::create_dir_all(world.path("mine/student")).unwrap();
    world.write("mine/student/notes.txt", "mine");
    for flag in ["--force", "--resume", "--smoke"] {
        world.distill("mine", &[flag]).refused(&["other files, such as `student`", "--out"]);
    }
    assert_eq!(std::fs::read_to_string(world.path("mine/student/notes.txt")).unwrap(), "mine");
    world.write("file", "");
    world.distill("file", &[]).refused(&["file"]);
}
