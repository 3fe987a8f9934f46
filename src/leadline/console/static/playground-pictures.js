// Pictures on their way into a message: chosen, dropped or pasted.
const TYPES = ["image/png", "image/jpeg", "image/gif", "image/webp"];
const MOST = 20;
// A request holds them in base64, and has 32 MiB of room.
const MOST_CHARACTERS = 31 * 1024 * 1024;

export class Pictures {
  // `wrong(text)` says why a picture is not taken, `held()` tells those that the conversation holds, `seeing()` what is
  // the matter with the chosen model, if it cannot see.
  constructor({ wrong, held, seeing, largest, add }) {
    Object.assign(this, { wrong, held, seeing, largest, add });
    this.attached = [];
    this.list = document.getElementById("pictures");
    const files = document.getElementById("files");
    document.getElementById("attach").addEventListener("click", () => files.click());
    files.addEventListener("change", async () => {
      await this.attach([...files.files]);
      files.value = "";
    });
    const page = document.querySelector(".play main");
    page.addEventListener("dragover", (event) => {
      if (!event.dataTransfer.types.includes("Files")) return;
      event.preventDefault();
      page.classList.add("dropping");
    });
    page.addEventListener("dragleave", (event) => {
      if (!page.contains(event.relatedTarget)) page.classList.remove("dropping");
    });
    page.addEventListener("drop", (event) => {
      page.classList.remove("dropping");
      if (!event.dataTransfer.files.length) return;
      event.preventDefault();
      this.attach([...event.dataTransfer.files]);
    });
    document.getElementById("prompt").addEventListener("paste", (event) => {
      if (!event.clipboardData.files.length) return;
      event.preventDefault();
      this.attach([...event.clipboardData.files]);
    });
  }

  async attach(files) {
    for (const file of files) {
      const problem = this.problemOf(file);
      if (problem) {
        this.wrong(problem);
        return;
      }
      const url = await read(file);
      const size = [...this.held(), ...this.attached].reduce((sum, picture) => sum + picture.url.length, url.length);
      if (size > MOST_CHARACTERS) {
        this.wrong("All pictures of a conversation together may have about 23 MiB. Delete some, or send smaller ones.");
        return;
      }
      this.attached.push({ name: file.name, url, preview: URL.createObjectURL(file) });
      this.wrong("");
    }
    this.show();
  }

  problemOf(file) {
    if (!TYPES.includes(file.type)) return `${file.name} is no picture in PNG, JPEG, GIF or WebP.`;
    if (file.size > this.largest) return `${file.name} is larger than ${this.largest / 1024 / 1024} MiB.`;
    if (this.held().length + this.attached.length >= MOST) return `A conversation may hold ${MOST} pictures at most.`;
    return this.seeing();
  }

  // What is attached, for the message that takes it along.
  take() {
    const taken = this.attached.map(({ name, url }) => ({ name, url }));
    for (const { preview } of this.attached) URL.revokeObjectURL(preview);
    this.attached = [];
    this.show();
    return taken;
  }

  show() {
    this.list.replaceChildren();
    for (const picture of this.attached) {
      const item = this.add(this.list, picture.preview, picture.name);
      const button = item.querySelector("button");
      button.setAttribute("aria-label", `Remove ${picture.name}`);
      button.addEventListener("click", () => {
        URL.revokeObjectURL(picture.preview);
        this.attached = this.attached.filter((other) => other !== picture);
        this.show();
        document.getElementById("prompt").focus();
      });
    }
    this.list.hidden = !this.attached.length;
  }
}

function read(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}
