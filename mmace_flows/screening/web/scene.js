// A small WebGL scene: one mesh, orthographic, turned and zoomed by pointer, wheel and keys. Cameras can be shared.

const VERTEX = `#version 300 es
in vec3 position; in vec3 normal; in vec3 colour;
uniform mat3 turn; uniform vec2 scale; uniform vec3 centre;
out vec3 facing; out vec3 tint;
void main() {
  vec3 seen = turn * (position - centre);
  facing = turn * normal; tint = colour;
  gl_Position = vec4(seen.xy * scale, -seen.z * 0.02, 1.0);
}`;
const FRAGMENT = `#version 300 es
precision highp float;
in vec3 facing; in vec3 tint; out vec4 pixel;
void main() {
  vec3 n = normalize(facing);
  vec3 light = normalize(vec3(-0.35, 0.55, 0.8));
  float diffuse = pow(0.5 + 0.5 * dot(n, light), 1.4); // softer than Lambert: the dark side still shows its colour
  float shine = pow(max(dot(reflect(-light, n), vec3(0.0, 0.0, 1.0)), 0.0), 36.0);
  pixel = vec4(tint * (0.38 + 0.68 * diffuse) + 0.18 * shine, 1.0);
}`;

export class Camera {
  constructor() {
    this.watchers = new Set();
    this.reset();
  }
  reset() {
    this.azimuth = 0.55;
    this.elevation = 0.35;
    this.zoom = 1;
    this.changed();
  }
  turn(across, up) {
    this.azimuth += across;
    this.elevation = Math.max(-Math.PI / 2, Math.min(Math.PI / 2, this.elevation + up));
    this.changed();
  }
  closer(factor) {
    this.zoom = Math.max(0.4, Math.min(6, this.zoom * factor));
    this.changed();
  }
  changed() {
    for (const watcher of this.watchers) watcher();
  }
  // rows: right, up, towards the viewer; z of the lab frame points up
  get rows() {
    const [ca, sa, ce, se] = [
      Math.cos(this.azimuth),
      Math.sin(this.azimuth),
      Math.cos(this.elevation),
      Math.sin(this.elevation),
    ];
    return [
      [ca, sa, 0],
      [-sa * se, ca * se, ce],
      [sa * ce, -ca * ce, se],
    ];
  }
}

export class Scene {
  // mesh: {positions, normals, colours: number[], indices: number[]}; labels: [{at: [x,y,z], text}]; radius seen at zoom 1
  constructor(holder, { mesh, labels, centre, radius, camera, describe }) {
    Object.assign(this, { holder, labels, centre, radius, camera, mesh });
    this.canvas = document.createElement("canvas");
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", `${describe} Arrow keys turn it, plus and minus zoom, 0 resets.`);
    this.overlay = document.createElement("div");
    this.overlay.className = "labels";
    this.overlay.setAttribute("aria-hidden", "true");
    this.spans = labels.map(({ text, kind }) => {
      const span = document.createElement("span");
      span.textContent = text;
      if (kind) span.className = kind;
      this.overlay.append(span);
      return span;
    });
    holder.append(this.canvas, this.overlay);
    this.gl = this.canvas.getContext("webgl2", { antialias: true, alpha: true });
    if (!this.gl) throw new Error("This browser draws no 3D (WebGL 2 is off).");
    this.prepare();
    this.listen();
    this.draw = () => {
      if (!this.waiting) {
        this.waiting = true;
        requestAnimationFrame(() => {
          this.waiting = false;
          this.paint();
        });
      }
    };
    camera.watchers.add(this.draw);
    this.observer = new ResizeObserver(this.draw);
    this.observer.observe(holder);
    this.draw();
  }

  close() {
    this.camera.watchers.delete(this.draw);
    this.observer.disconnect();
    this.gl.getExtension("WEBGL_lose_context")?.loseContext();
  }

  prepare() {
    const gl = this.gl;
    const program = gl.createProgram();
    for (const [kind, source] of [
      [gl.VERTEX_SHADER, VERTEX],
      [gl.FRAGMENT_SHADER, FRAGMENT],
    ]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error("This browser cannot draw the picture.");
    gl.useProgram(program);
    for (const [name, data] of [
      ["position", this.mesh.positions],
      ["normal", this.mesh.normals],
      ["colour", this.mesh.colours],
    ]) {
      const place = gl.getAttribLocation(program, name);
      gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
      gl.bufferData(gl.ARRAY_BUFFER, new Float32Array(data), gl.STATIC_DRAW);
      gl.enableVertexAttribArray(place);
      gl.vertexAttribPointer(place, 3, gl.FLOAT, false, 0, 0);
    }
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, new Uint32Array(this.mesh.indices), gl.STATIC_DRAW);
    gl.enable(gl.DEPTH_TEST);
    this.at = (name) => gl.getUniformLocation(program, name);
  }

  paint() {
    const { gl, canvas, camera } = this;
    const [width, height] = [this.holder.clientWidth, this.holder.clientHeight];
    const density = Math.min(2, devicePixelRatio || 1);
    if (canvas.width !== Math.round(width * density) || canvas.height !== Math.round(height * density)) {
      canvas.width = Math.round(width * density);
      canvas.height = Math.round(height * density);
    }
    const perUnit = (camera.zoom * Math.min(width, height)) / (2 * this.radius); // pixels
    const rows = camera.rows;
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.uniformMatrix3fv(this.at("turn"), true, rows.flat());
    gl.uniform2f(this.at("scale"), (2 * perUnit) / width, (2 * perUnit) / height);
    gl.uniform3fv(this.at("centre"), this.centre);
    gl.drawElements(gl.TRIANGLES, this.mesh.indices.length, gl.UNSIGNED_INT, 0);
    this.labels.forEach(({ at }, index) => {
      const away = at.map((value, axis) => value - this.centre[axis]);
      const [x, y] = rows.slice(0, 2).map((row) => row[0] * away[0] + row[1] * away[1] + row[2] * away[2]);
      this.spans[index].style.transform =
        `translate(${(width / 2 + x * perUnit).toFixed(1)}px, ${(height / 2 - y * perUnit).toFixed(1)}px) translate(-50%, -50%)`;
    });
    this.holder.dataset.painted = "true";
  }

  listen() {
    const { canvas, camera } = this;
    const held = new Map();
    let apart = 0;
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      held.set(event.pointerId, [event.clientX, event.clientY]);
      apart = 0;
    });
    canvas.addEventListener("pointermove", (event) => {
      const before = held.get(event.pointerId);
      if (!before) return;
      held.set(event.pointerId, [event.clientX, event.clientY]);
      if (held.size === 2) {
        // two fingers zoom
        const [a, b] = [...held.values()];
        const now = Math.hypot(a[0] - b[0], a[1] - b[1]);
        if (apart) camera.closer(now / apart);
        apart = now;
      } else camera.turn(-(event.clientX - before[0]) * 0.01, (event.clientY - before[1]) * 0.01);
    });
    for (const name of ["pointerup", "pointercancel"])
      canvas.addEventListener(name, (event) => {
        held.delete(event.pointerId);
        apart = 0;
      });
    canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        camera.closer(Math.exp(-event.deltaY * 0.0015));
      },
      { passive: false },
    );
    canvas.addEventListener("dblclick", () => camera.reset());
    canvas.addEventListener("keydown", (event) => {
      const turns = { ArrowLeft: [0.12, 0], ArrowRight: [-0.12, 0], ArrowUp: [0, 0.12], ArrowDown: [0, -0.12] };
      if (turns[event.key]) camera.turn(...turns[event.key]);
      else if (event.key === "+" || event.key === "=") camera.closer(1.15);
      else if (event.key === "-") camera.closer(1 / 1.15);
      else if (event.key === "0") camera.reset();
      else return;
      event.preventDefault();
    });
  }
}
