//! `init`: a recipe of one's own that works at once.

use super::world::World;

#[test]
fn a_teacher_and_one_file_of_text_are_enough() {
    let world = World::shared();
    let base = ["init", "own.toml", "--teacher", "runs/teacher", "--text", "held-out.txt"];
    let ran = world.run(&base).noted(&["factorize own.toml --smoke"]);
    assert_eq!(ran.stdout, "own.toml\n");
    let text = std::fs::read_to_string(world.path("own.toml")).unwrap();
    let comments = text.lines().filter(|line| line.starts_with('#')).count();
    assert!(comments > 15, "{text}");
    assert!(text.contains("kind = \"lora\"") && text.contains("split_by = \"passage\""), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 102), "{text}");
    world.run(&["own.toml", "--smoke", "--quiet"]).good();
    assert!(world.path("runs/own/student/model.safetensors").exists());
    world.run(&base).refused(&["there already", "--force"]);
    world.run(&[&base[..], &["--force", "--quiet"]].concat()).good();
}

#[test]
fn without_a_teacher_and_a_text_the_recipe_says_what_to_fill_in() {
    let world = World::shared();
    let text = world.run(&["init", "-"]).good().stdout;
    assert!(text.contains("# source = \"owner/name\"") && text.contains("corpus/*.txt"), "{text}");
    world.write("blank.toml", &text);
    world.run(&["blank.toml"]).refused(&["no teacher was given", "--teacher"]);
    let given = ["blank.toml", "--teacher", "runs/teacher", "--out", "blank"];
    world.run(&given).refused(&["corpus/*.txt", "matches no file"]);
    let filled = ["--set", "data.files=[\"text.jsonl\"]", "--smoke", "--quiet"];
    world.run(&[&given[..], &filled].concat()).good();
    world.run(&["init", "x.toml", "--teacher", "runs/nobody"]).refused(&["runs/nobody"]);
    assert!(!world.path("x.toml").exists());
}
